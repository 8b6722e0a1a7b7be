// The statements: who says what, whether the signature is theirs, and what the
// contract comes to. It is the fold of package governance as far as a visitor
// needs it; what it cannot accept it shows with the reason.
import { bytesOf, concat, hexOf, sha256 } from './log.js';

const utf8 = new TextEncoder();
const text = new TextDecoder('utf-8', { fatal: true });
const payloadType = 'application/vnd.cloister.statement.v1+json';

export const digestOf = async (bytes) => 'sha256:' + hexOf(await sha256(bytes));

// open parses an entry, a DSSE envelope. Nothing of it is authentic yet.
export function open(entry) {
  const envelope = JSON.parse(text.decode(entry));
  if (envelope.payloadType !== payloadType) throw new Error('it is not a statement');
  const payload = bytesOf(envelope.payload);
  const s = JSON.parse(text.decode(payload));
  if (s.signers.length !== (s.type === 'rotate' ? 3 : 1) || envelope.signatures.length !== s.signers.length) throw new Error('it has not the signers that it takes');
  const head = `DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `;
  return { ...s, time: String(s.time), key: s.signers[0].key, counter: s.signers[0].counter, message: concat(utf8.encode(head), payload), signature: bytesOf(envelope.signatures[0].sig), signatures: envelope.signatures.map((x) => bytesOf(x.sig)) };
}

// importKey reads a signing key, SubjectPublicKeyInfo in DER.
async function importKey(base64) {
  const spki = bytesOf(base64);
  const algorithm = spki.length === 44 ? 'Ed25519' : { name: 'ECDSA', namedCurve: 'P-256' };
  return { fingerprint: await digestOf(spki), algorithm, key: await crypto.subtle.importKey('spki', spki, algorithm, false, ['verify']) };
}

// rawSignature makes the form that WebCrypto wants of an ECDSA signature in DER.
function rawSignature(der) {
  const out = new Uint8Array(64);
  let at = 2;
  for (const end of [32, 64]) {
    if (der[0] !== 0x30 || der[at] !== 2) throw new Error('the signature is malformed');
    let n = der.slice(at + 2, at + 2 + der[at + 1]);
    at += 2 + der[at + 1];
    while (n.length > 32 && n[0] === 0) n = n.slice(1);
    if (n.length > 32) throw new Error('the signature is malformed');
    out.set(n, end - n.length);
  }
  return out;
}

async function signed(s, key, signature = s.signature) {
  if (key.algorithm === 'Ed25519') return crypto.subtle.verify('Ed25519', key.key, signature, s.message);
  return crypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, key.key, rawSignature(signature), s.message);
}

const ofRun = (type) => ['run-begin', 'consent-check', 'record-access', 'record-execution', 'refusal', 'journal-head', 'completion', 'app-event', 'egress'].includes(type);
// Forged is what is wrong with an entry by itself; anything else may be wrong only
// because of an entry before it.
class Forged extends Error {}
const demand = (ok, why) => { if (!ok) throw new Error(why); };

// Fold takes entries in their order. With check false it believes signatures.
export class Fold {
  constructor(check) {
    Object.assign(this, { check, status: 'draft', contract: null, digest: '', keys: new Map(), approvals: new Map(), consents: new Map(), counters: new Map(), runs: new Map(), retired: new Map(), vouchers: new Set(), ended: '' });
  }

  // add returns what to show of an entry: {index, statement, by, problem, forged}.
  async add(index, entry, leafHash) {
    const seen = { index, statement: null, by: '', problem: '', forged: false };
    try {
      const s = seen.statement = open(entry);
      if (ofRun(s.type)) await this.addRecord(seen, s, 'sha256:' + hexOf(leafHash));
      else await this.addParty(seen, s, index);
      for (const id of s.signers) this.counters.set(id.key, id.counter);
    } catch (e) {
      Object.assign(seen, { problem: e.message || String(e), forged: e instanceof Forged });
    }
    return seen;
  }

  async authentic(s, key, i = 0) {
    const id = s.signers[i];
    demand(key.fingerprint === id.key, 'it is signed with another key than its own');
    if (this.check && !await signed(s, key, s.signatures[i])) throw new Forged('its signature is wrong: it was changed, or is forged');
    demand(id.counter > (this.counters.get(id.key) ?? 0), 'it is replayed: its counter does not rise');
  }

  // current returns the key that stands for one, in base64, now.
  async current(base64) {
    let key = await importKey(base64);
    while (this.retired.has(key.fingerprint)) key = this.retired.get(key.fingerprint);
    return key;
  }

  async same(a, b) { return a === b || Boolean(a && b) && (await this.current(a)).fingerprint === (await this.current(b)).fingerprint; }

  // addRotate wants the old key, the new one, and the recovery key or another party's.
  async addRotate(seen, s) {
    const party = this.contract?.parties.find((p) => p.name === s.body.party);
    demand(party, 'it is of no party of the contract');
    seen.by = party.name;
    const [old, next] = [await this.current(party.key), await importKey(s.body.key)];
    const recovery = party.recovery ? await this.current(party.recovery) : null;
    let vouched = false;
    for (const [i, id] of s.signers.entries()) {
      let key = [old, next].find((k) => k.fingerprint === id.key);
      if (!key) {
        const other = this.keys.get(id.key);
        key = recovery?.fingerprint === id.key ? recovery : other && other.name !== party.name && this.vouchers.has(id.key) ? other : null;
        demand(key, 'a key that signed it cannot vouch for the party');
        vouched = true;
      }
      await this.authentic(s, key, i);
    }
    demand(vouched && [old, next].every((k) => s.signers.some((id) => id.key === k.fingerprint)), 'it is not signed with the three keys that it takes');
    demand(this.status !== 'withdrawn' && s.version === this.contract.version, 'it is about a version that is not the newest, or that has ended');
    demand(!s.body.recovery || recovery, 'the party has no recovery key to replace');
    const nextRecovery = s.body.recovery ? await importKey(s.body.recovery) : null;
    for (const k of [next, nextRecovery]) demand(!k || !(await this.used(k.fingerprint)), 'its new key is or was in use');
    if (nextRecovery) this.retired.set(recovery.fingerprint, nextRecovery);
    this.retired.set(old.fingerprint, next);
    this.keys.delete(old.fingerprint);
    this.keys.set(next.fingerprint, { name: party.name, ...next });
    if (this.vouchers.delete(old.fingerprint)) this.vouchers.add(next.fingerprint);
  }

  async used(fingerprint) {
    for (const p of this.contract.parties) if (p.recovery && (await this.current(p.recovery)).fingerprint === fingerprint) return true;
    return this.keys.has(fingerprint) || this.retired.has(fingerprint) || this.counters.has(fingerprint);
  }

  async addParty(seen, s, index) {
    const body = s.body;
    if (s.type === 'propose' || s.type === 'amend') return this.addVersion(seen, s);
    if (s.type === 'rotate') return this.addRotate(seen, s);
    const party = this.keys.get(s.key);
    demand(party, 'its key is of no party of the contract');
    seen.by = party.name;
    await this.authentic(s, party);
    demand(s.version === this.contract.version, 'it is about a version that is not the newest');
    demand(this.status !== 'withdrawn', 'the contract is withdrawn');
    switch (s.type) {
      case 'approve':
        demand(body.digest === this.digest && this.status === 'proposed', 'it approves something else than what is proposed');
        this.approvals.set(party.name, s.time);
        if (this.approvals.size === this.contract.parties.length) { this.status = 'accepted'; this.vouchers = new Set(this.keys.keys()); }
        break;
      case 'reject': demand(body.digest === this.digest && this.status === 'proposed', 'it rejects something else than what is proposed'); this.status = 'rejected'; this.ended = party.name; break;
      case 'withdraw': this.status = 'withdrawn'; this.ended = party.name; break;
      case 'consent-grant': demand(this.status === 'accepted', 'the contract is not accepted'); this.consent(party.name, body.scopes, { index, time: s.time, ...body }); break;
      case 'consent-withdraw': this.consent(party.name, body.scopes, { index, time: s.time, withdrawn: true }); break;
      case 'provision-request': case 'provision-decline': case 'provisioned': demand(this.status === 'accepted', 'the contract is not accepted'); break;
      default: throw new Error('its type is unknown to this page');
    }
  }

  consent(party, scopes, what) { for (const scope of scopes) this.consents.set(`${party} ${scope}`, what); }

  async addVersion(seen, s) {
    const next = s.body.contract;
    const keys = new Map();
    for (const p of next.parties) { const key = await this.current(p.key); keys.set(key.fingerprint, { name: p.name, ...key }); }
    const by = (s.type === 'propose' ? keys : this.keys).get(s.key);
    demand(by, 'its key is of no party of the contract');
    seen.by = by.name;
    await this.authentic(s, by);
    demand(next.id === s.contract && next.version === s.version && next.version === (this.contract?.version ?? 0) + 1 && (this.contract?.id ?? next.id) === next.id, 'it is not the contract’s next version');
    demand(s.type === 'propose' || this.status !== 'withdrawn', 'the contract is withdrawn');
    for (const p of next.parties) {
      const was = this.contract?.parties.find((q) => q.name === p.name);
      demand(!was || await this.same(was.key, p.key) && await this.same(was.recovery, p.recovery), `it changes the key of ${p.name}`);
      demand(was || !this.retired.has((await importKey(p.key)).fingerprint), `it names a key that was replaced for ${p.name}`);
    }
    const digest = await digestOf(utf8.encode('cloister contract v1\n' + JSON.stringify(next)));
    Object.assign(this, { contract: next, digest, keys, status: 'proposed', approvals: new Map(), consents: new Map(), ended: '' });
    if (s.type === 'propose') this.vouchers = new Set(keys.keys());
  }

  async addRecord(seen, s, digest) {
    const head = s.body.run;
    seen.by = 'enclave';
    if (s.type === 'run-begin') {
      const key = await importKey(s.body.auditKey);
      await this.authentic(s, key);
      demand(!this.runs.has(head.id) && s.counter === 1 && !head.previous, 'the run begins twice, or not with its first record');
      demand(this.status === 'accepted' && s.body.contractDigest === this.digest, 'the run does not carry out the accepted contract');
      this.runs.set(head.id, { id: head.id, key, version: s.version, sequence: 1, previous: digest, began: s.time, platform: s.body.evidence.platform, end: null });
      return;
    }
    const run = this.runs.get(head.id);
    demand(run, 'its run did not begin');
    await this.authentic(s, run.key);
    demand(!run.end, 'its run is ended');
    demand(s.counter === run.sequence + 1, `the run’s records have a gap: ${s.counter} follows ${run.sequence}`);
    demand(head.previous === run.previous, 'it does not follow the run’s record before it');
    Object.assign(run, { sequence: s.counter, previous: digest });
    if (s.type === 'completion') run.end = { ...s.body, time: s.time };
  }
}

const because = (what, why) => (why ? `${what} (${why})` : what);

// words says what a statement says.
export function words(s) {
  const b = s.body;
  switch (s.type) {
    case 'propose': return `proposes version ${s.version} of ${s.contract}`;
    case 'amend': return `amends the contract to version ${s.version}; earlier approvals lapse`;
    case 'approve': return `approves version ${s.version}`;
    case 'reject': return because(`rejects version ${s.version}`, b.reason);
    case 'withdraw': return because('withdraws the contract', b.reason);
    case 'consent-grant': return `consents to ${b.scopes.join(', ')}${b.runs ? `, for ${b.runs} run(s)` : ''}${b.expires ? `, until ${b.expires}` : ''}`;
    case 'consent-withdraw': return because(`withdraws consent to ${b.scopes.join(', ')}`, b.reason);
    case 'rotate': return `replaces the signing key of ${b.party}`;
    case 'provision-request': return `asks for the keys of ${b.volumes.join(', ')}`;
    case 'provision-decline': return because(`will not provision ${b.volumes.join(', ')}`, b.reason);
    case 'provisioned': return `has put in place ${b.resources.map((r) => `${r.kind} ${r.name}`).join(', ')}`;
    case 'run-begin': return `begins run ${b.run.id} on ${b.evidence.platform}`;
    case 'consent-check': return because(`asks for consent to ${b.scope}`, b.what);
    case 'record-access': return because(`accesses ${b.what} ${b.name}${b.volume ? ` of volume ${b.volume}` : ''}`, b.detail);
    case 'record-execution': return b.phase === 'end' ? `${b.application} ended with exit code ${b.exit}` : because(`starts ${b.application}`, b.detail);
    case 'refusal': return because(`did not take step ${b.step}`, b.reason);
    case 'journal-head': return `output ${b.volume} is at epoch ${b.epoch}, record ${b.sequence}`;
    case 'app-event': return `passes on what the application says of ${b.id}: ${new TextDecoder().decode(bytesOf(b.data))}`;
    case 'egress': return `egress: ${b.decisions.map((d) => `${d.decision}${d.host ? ` ${d.host}:${d.port}` : ''}, ${d.count} times`).join('; ')}`;
    case 'completion': return b.complete ? 'completes the run' : because('ends the run INCOMPLETE', b.detail);
    default: return `says something this page does not know: ${s.type}`;
  }
}
