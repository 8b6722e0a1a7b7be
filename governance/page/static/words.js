// Statements and contracts in words. What a party wrote is never more than text.
import { bytesOf } from './bytes.js';

const because = (what, why) => (why ? `${what} (${why})` : what);
const count = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;

// said says what a statement says.
export function said(s) {
  const b = s.body;
  switch (s.type) {
    case 'propose': return `proposes version ${s.version} of ${s.contract}`;
    case 'amend': return `amends the contract to version ${s.version}; earlier approvals lapse`;
    case 'approve': return `approves version ${s.version}`;
    case 'reject': return because(`rejects version ${s.version}`, b.reason);
    case 'withdraw': return because('withdraws the contract', b.reason);
    case 'consent-grant': return `consents to ${b.scopes.join(', ')}${b.runs ? `, for ${count(b.runs, 'run')}` : ''}${b.expires ? `, until ${b.expires}` : ''}`;
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
    case 'egress': return `egress: ${b.decisions.map((d) => `${d.decision}${d.host ? ` ${d.host}:${d.port}` : ''}, ${d.count} times`).join('; ')}`;
    case 'job': return jobWords(b);
    case 'app-event': return `passes on what the application says of ${b.id}: ${new TextDecoder().decode(bytesOf(b.data))}`;
    case 'completion': return b.complete ? 'completes the run' : because('ends the run INCOMPLETE', b.detail);
    default: return `says something this page does not know: ${s.type}`;
  }
}

function jobWords(b) {
  const handed = (what, h) => (h ? ` ${what} ${h.digest} of ${count(h.size, 'byte')}` : '');
  if (b.phase === 'start') return `starts job ${b.id}${handed('with parameters', b.parameters)}${b.party ? `, called by party ${b.party}` : ''}`;
  if (b.phase === 'result') return `hands over of job ${b.id}${handed('the result', b.result)} to party ${b.party}`;
  return because(`job ${b.id} ended with exit code ${b.exit}${handed('and the result', b.result)}`, b.detail);
}

// clauses is what a contract lets whom do: a list of a heading and its sentences.
// specification is null where the contract came without it.
export function clauses(contract, specification) {
  const of = (kind) => (contract.volumes ?? []).filter((v) => v.kind === kind);
  const list = (kind, say) => (of(kind).length ? of(kind).map(say) : ['Nothing.']);
  const at = (v) => {
    const all = [...(specification?.code ?? []), ...(specification?.datasources ?? []), ...(specification?.datasinks ?? [])];
    const found = all.find((x) => x.name === v.name);
    return found ? `, at ${found.mount}` : '';
  };
  const others = (v) => (v.recipients ?? []).length;
  return [
    ['It may execute', [...program(specification), ...of('code').map((v) => `code ${v.name}, of ${v.owner}${at(v)}`)]],
    ['It may read', list('source', (v) => `data ${v.name}, of ${v.owner}${at(v)}`)],
    ['It may write', list('sink', (v) => `output ${v.name}, of ${v.owner}${at(v)}, sealed for ${others(v) ? count(others(v), 'recipient key') : 'its owner alone'}`)],
    ...(specification ? [['It may reach', network(specification)]] : []),
    ...(specification?.jobs ? [['It may work for', jobs(specification.jobs)]] : []),
  ];
}

function program(s) {
  if (!s) return ['the one program that the specification below names'];
  const { name, command, image, governanceAPI } = s.application;
  return [`application ${name}: ${command.join(' ')}`, ...(image ? [`from image ${image.reference}`] : []),
    ...(governanceAPI ? ['which may put words of its own into this record, with all parties’ consent to logging'] : [])];
}

function jobs(j) {
  const who = (names) => (names ?? []).join(' and ') || 'nobody';
  return [`${who(j.start)} may start ${count(j.count || 1, 'job')} in a run, ${j.atOnce || 1} at a time${j.consent === 'job' ? ', each of which asks for consent' : ''}`,
    j.maxResult ? `${who(j.results)} may have anything that a job puts into its result, at most ${count(j.maxResult, 'byte')} of each` : 'a job’s result is for nobody'];
}

function network({ network: n, endpoints = [] }) {
  const out = { list: () => n.allow.map((d) => `whatever it has read may go to ${d.host}, port ${d.port}`), policy: () => [`what policy ${n.policy.file} ${n.policy.digest} lets through`] };
  const outside = out[n.egress]?.() ?? ['nothing outside'];
  return [...outside, ...(endpoints.length ? endpoints.map((e) => `clients may call endpoint ${e.name} at port ${e.port}`) : ['nobody can call it'])];
}
