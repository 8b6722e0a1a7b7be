// The fold: what the contract comes to, statement by statement, and which of them
// may not be said. It is the law of package governance as far as it can be judged
// here; the evidence and the bounds of single fields are left to it.
const runTypes = ['run-begin', 'consent-check', 'record-access', 'record-execution', 'refusal', 'journal-head', 'completion', 'app-event', 'egress', 'job'];
export const ofRun = (type) => runTypes.includes(type);
export const scopes = ['execution', 'logging', 'telemetry'];

// Refused is why a statement is not accepted. forged is what is wrong with it by
// itself; anything else may be wrong only because of an entry before it.
class Refused extends Error {
  constructor(why, forged = false) { super(why); this.forged = forged; }
}
const demand = (ok, why) => { if (!ok) throw new Refused(why); };

export class Fold {
  status = 'draft';
  contract = null;
  digest = '';
  specification = ''; // canonical, in base64, where the newest version came with it
  keys = new Map();       // party by fingerprint, of the newest version
  names = new Map();      // the same, of every key that there ever was
  approvals = new Map();  // time by party
  consents = new Map();   // by `party scope`
  counters = new Map();   // by a party's fingerprint
  retired = new Map();    // fingerprint by the one that it took the place of
  vouchers = new Set();
  runs = new Map();
  versions = [];          // how the contract came about
  newest = 0;             // the latest time that a statement names

  constructor(ring) { this.ring = ring; }

  // add folds the next statement, and returns why it is refused or null.
  add(index, s) {
    try {
      demand(!s.malformed, s.malformed);
      if (s.forged) throw new Refused('its signature is wrong: it was changed, or is forged', true);
      demand(!this.contract || s.contract === this.contract.id, 'it is about another contract');
      if (ofRun(s.type)) this.addRecord(s, index);
      else this.addParty(s, index);
      this.newest = Math.max(this.newest, Date.parse(s.time));
      return null;
    } catch (e) {
      return e instanceof Refused ? { why: e.message, forged: e.forged } : { why: `it is malformed: ${e.message}`, forged: false };
    }
  }

  current(base64) {
    let key = this.ring.of(base64);
    while (this.retired.has(key)) key = this.retired.get(key);
    return key;
  }

  same(a, b) { return a === b || Boolean(a && b) && this.current(a) === this.current(b); }

  fresh(s) {
    for (const id of s.signers) demand(id.counter > (this.counters.get(id.key) ?? 0), 'it is replayed: its counter does not rise');
  }

  addParty(s, index) {
    if (s.type === 'propose' || s.type === 'amend') this.addVersion(s, index);
    else if (s.type === 'rotate') this.addRotate(s);
    else this.addWord(s, index);
    for (const id of s.signers) this.counters.set(id.key, id.counter);
  }

  addVersion(s, index) {
    const next = s.body.contract;
    const keys = new Map(next.parties.map((p) => [this.current(p.key), p.name]));
    const by = (s.type === 'propose' ? keys : this.keys).get(s.key);
    demand(by, 'its key is of no party of the contract');
    this.fresh(s);
    demand(s.type === 'propose' || this.status !== 'withdrawn', 'the contract is withdrawn');
    demand(next.id === s.contract && next.version === s.version && next.version === (this.contract?.version ?? 0) + 1, 'it is not the contract’s next version');
    demand(!s.specificationDigest || s.specificationDigest === next.specification, 'the specification that it comes with is another one');
    if (s.type === 'amend') this.mayAmend(next, by);
    Object.assign(this, { contract: next, digest: s.contractDigest, specification: s.body.specification ?? '', keys, status: 'proposed', approvals: new Map(), consents: new Map() });
    for (const [key, name] of keys) this.names.set(key, name);
    if (s.type === 'propose') this.vouchers = new Set(keys.keys());
    this.versions.push({ version: next.version, by, time: s.time, index, approvals: this.approvals, ended: null });
  }

  // mayAmend: each party changes its own, nobody's key, and does not leave.
  mayAmend(next, by) {
    demand(next.parties.some((p) => p.name === by), `${by} cannot amend itself out of the contract`);
    for (const p of next.parties) {
      const was = this.contract.parties.find((q) => q.name === p.name);
      demand(!was || this.same(was.key, p.key) && this.same(was.recovery, p.recovery), `it changes the key of ${p.name}`);
      demand(!was || p.name === by || was.recipient === p.recipient, `it changes the recipient key of ${p.name}`);
      demand(was || !this.retired.has(this.ring.of(p.key)), `it names a key that was replaced for ${p.name}`);
    }
    const [was, is] = [this.contract, next].map((k) => new Map((k.volumes ?? []).map((v) => [v.name, v])));
    for (const v of [...was.values(), ...is.values()]) {
      demand(v.owner === by || JSON.stringify(was.get(v.name)) === JSON.stringify(is.get(v.name)), `${by} cannot change volume ${v.name} of ${v.owner}`);
    }
  }

  // addRotate wants the old key, the new one, and the recovery key or another party's.
  addRotate(s) {
    const party = this.contract?.parties.find((p) => p.name === s.body.party);
    demand(party, 'it is of no party of the contract');
    const [old, next] = [this.current(party.key), this.ring.of(s.body.key)];
    const recovery = party.recovery ? this.current(party.recovery) : null;
    const vouches = (key) => key === recovery || this.vouchers.has(key) && this.keys.has(key) && this.keys.get(key) !== party.name;
    const signers = s.signers.map((id) => id.key);
    demand(signers.every((key) => key === old || key === next || vouches(key)), 'a key that signed it cannot vouch for the party');
    demand(signers.includes(old) && signers.includes(next) && signers.some((key) => key !== old && key !== next), 'it is not signed with the three keys that it takes');
    this.fresh(s);
    demand(this.status !== 'withdrawn' && s.version === this.contract.version, 'it is about a version that is not the newest, or that has ended');
    demand(!s.body.recovery || recovery, 'the party has no recovery key to replace');
    const nextRecovery = s.body.recovery ? this.ring.of(s.body.recovery) : null;
    for (const key of [next, nextRecovery]) demand(!key || !this.used(key), 'its new key is or was in use');
    if (nextRecovery) this.retired.set(recovery, nextRecovery);
    this.retired.set(old, next);
    this.keys.delete(old);
    this.keys.set(next, party.name);
    this.names.set(next, party.name);
    if (this.vouchers.delete(old)) this.vouchers.add(next);
  }

  used(key) {
    return this.keys.has(key) || this.retired.has(key) || this.counters.has(key) || this.contract.parties.some((p) => p.recovery && this.current(p.recovery) === key);
  }

  addWord(s, index) {
    const [body, party] = [s.body, this.keys.get(s.key)];
    demand(party, 'its key is of no party of the contract');
    this.fresh(s);
    demand(this.status !== 'withdrawn', 'the contract is withdrawn');
    demand(s.version === this.contract.version, 'it is about a version that is not the newest');
    const proposed = () => demand(body.digest === this.digest && this.status === 'proposed', `it ${s.type}s something else than what is proposed`);
    const accepted = () => demand(this.status === 'accepted', 'the contract is not accepted');
    const end = (status) => { this.status = status; this.versions.at(-1).ended = { status, by: party, time: s.time, reason: body.reason }; };
    switch (s.type) {
      case 'approve': proposed(); this.approve(party, s.time); break;
      case 'reject': proposed(); end('rejected'); break;
      case 'withdraw': end('withdrawn'); break;
      case 'consent-grant': accepted(); for (const scope of body.scopes) this.consents.set(`${party} ${scope}`, { index, time: s.time, expires: body.expires, limit: body.runs, runs: new Set() }); break;
      case 'consent-withdraw': for (const scope of body.scopes) this.consents.set(`${party} ${scope}`, { index, time: s.time, withdrawn: true }); break;
      case 'provision-request': accepted(); this.known(body.volumes); break;
      case 'provision-decline': accepted(); this.own(party, body.volumes); break;
      case 'provisioned': accepted(); this.own(party, body.resources.map((r) => r.name)); break;
      default: throw new Refused('its type is unknown to this page');
    }
  }

  volume(name) { return (this.contract.volumes ?? []).find((v) => v.name === name); }
  known(names) { for (const name of names) demand(this.volume(name), `the contract has no volume ${name}`); }
  own(party, names) { for (const name of names) demand(this.volume(name)?.owner === party, `volume ${name} is not of ${party}`); }

  approve(party, time) {
    demand(!this.approvals.has(party), `${party} has approved already`);
    this.approvals.set(party, time);
    if (this.approvals.size < this.contract.parties.length) return;
    this.status = 'accepted';
    this.vouchers = new Set(this.keys.keys());
  }

  addRecord(s, index) {
    const head = s.body.run;
    if (s.type === 'run-begin') return this.begin(s, head, index);
    const run = this.runs.get(head.id);
    demand(run, 'its run did not begin');
    demand(!run.end, 'its run is ended');
    demand(s.key === run.key, 'it is signed with another key than its run’s');
    demand(s.counter === run.sequence + 1, `the run’s records have a gap: ${s.counter} follows ${run.sequence}`);
    demand(head.previous === run.previous, 'it does not follow the run’s record before it');
    demand(s.version === run.version, 'it is about another version than its run');
    this.judge(s, run);
    Object.assign(run, { sequence: s.counter, previous: s.entryDigest });
    if (s.type === 'completion') this.complete(run, s);
  }

  begin(s, head, index) {
    demand(this.ring.of(s.body.auditKey) === s.key, 'it is signed with another key than its own');
    demand(!this.runs.has(head.id) && s.counter === 1 && !head.previous, 'the run begins twice, or not with its first record');
    demand(this.status === 'accepted' && s.version === this.contract.version && s.body.contractDigest === this.digest, 'the run does not carry out the accepted contract');
    this.runs.set(head.id, { id: head.id, index, version: s.version, sequence: 1, began: s.time, end: null, key: s.key, previous: s.entryDigest, evidence: s.evidenceDigest, asked: {}, started: '' });
  }

  // judge: what happened can always be told; what is about to happen takes consent.
  judge(s, run) {
    const body = s.body;
    const consented = (scope) => {
      demand(run.asked[scope], 'the run has not asked for consent before it');
      demand(run.asked[scope] === 'yes', 'the run has no consent to it');
      demand(this.allows(run, scope, s.time), 'the consent to it has ended');
    };
    switch (s.type) {
      case 'consent-check':
        demand(body.evidence === run.evidence, 'it is asked with other evidence than the run began with');
        run.asked[body.scope] = this.allows(run, body.scope, s.time) ? 'yes' : 'no';
        if (run.asked[body.scope] === 'yes') for (const p of this.contract.parties) this.consents.get(`${p.name} ${body.scope}`).runs.add(run.id);
        break;
      case 'record-access': consented('execution'); break;
      case 'app-event': consented('logging'); break;
      case 'job': if (body.phase !== 'end') consented('execution'); break;
      case 'record-execution':
        demand(body.phase === 'end' ? run.started === body.application : run.started === '', 'an application starts twice, or ends without a start');
        if (body.phase !== 'end') consented('execution');
        run.started = body.phase === 'end' ? '' : body.application;
        break;
    }
  }

  // allows says whether every party consents, to the version that the run carries out.
  allows(run, scope, time) {
    const now = Math.max(this.newest, Date.parse(time));
    return this.status === 'accepted' && run.version === this.contract.version && this.contract.parties.every((p) => {
      const c = this.consents.get(`${p.name} ${scope}`);
      return c && !c.withdrawn && !(c.expires && now >= Date.parse(c.expires)) && !(c.limit && !c.runs.has(run.id) && c.runs.size >= c.limit);
    });
  }

  // complete keeps of an ended run what is shown: there may be many.
  complete(run, s) {
    const { complete, exit, detail } = s.body;
    this.ring.forget(run.key);
    const { id, index, version, sequence, began } = run;
    this.runs.set(id, { id, index, version, sequence, began, end: { complete, exit, detail } });
  }
}
