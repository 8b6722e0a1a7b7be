// The page: it reads the log, shows it, and checks it when asked. Text from the
// log goes into the document as text nodes only.
import { leaves, parseKey, readLog, root, sameHash, verifyCheckpoint } from './log.js';
import { Fold, words } from './statements.js';

const at = (id) => document.getElementById(id);
const step = 200; // entries shown at once
let shown = step;
let current = null; // {fold, seen, checked}: checked is 'all' where the record holds, 'some' where statements were checked and it does not

function el(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...children.filter((c) => c !== null && c !== ''));
  return e;
}
const when = (t) => el('time', { datetime: t }, t.replace('T', ' ').replace(/\.\d+Z$/, ' UTC'));
const short = (digest) => el('code', { title: digest }, `${digest.slice(0, 15)}…${digest.slice(-4)}`);
const chip = (kind, text) => el('span', { class: `chip ${kind}` }, text);

async function fold(log, hashes, check) {
  const f = new Fold(check);
  const seen = [];
  for (let i = 0; i < log.entries.length; i++) seen.push(await f.add(i, log.entries[i], hashes[i]));
  return { fold: f, seen };
}

function showContract({ fold: f }) {
  const k = f.contract;
  at('title').textContent = k ? `Contract ${k.id}` : 'Contract ledger';
  document.title = at('title').textContent;
  at('status').textContent = k ? `version ${k.version} ${f.status}` : 'nothing proposed yet';
  at('status').className = `chip ${f.status === 'accepted' ? 'good' : ['rejected', 'withdrawn'].includes(f.status) ? 'bad' : ''}`;
  if (!k) return at('contract').replaceChildren(el('p', {}, 'Nothing has been proposed in this ledger yet.'));
  const names = k.parties.map((p) => p.name);
  const of = (kind) => (k.volumes ?? []).filter((v) => v.kind === kind);
  const list = (kind, say) => of(kind).length ? el('ul', { class: 'plain' }, ...of(kind).map((v) => el('li', {}, say(v)))) : el('p', {}, 'Nothing.');
  const pinned = [['Specification', k.specification], ['Container policy', k.containerPolicy], ['Key release policy', k.keyReleasePolicy], ['Contract', f.digest]];
  at('contract').replaceChildren(
    el('p', {}, `${names.join(', ')} agree that one program may run over these files, in an enclave that proves it runs under the container policy below, and nowhere else.`),
    el('h3', {}, 'It may read'), list('source', (v) => `data ${v.name}, of ${v.owner}`),
    el('h3', {}, 'It may execute'), list('code', (v) => `code ${v.name}, of ${v.owner}`),
    el('h3', {}, 'It may write'), list('sink', (v) => `output ${v.name}, of ${v.owner}, sealed for ${(v.recipients ?? []).length || 'no other'} recipient key(s)`),
    el('h3', {}, 'What an approval binds'),
    el('dl', {}, ...pinned.flatMap(([what, digest]) => [el('dt', {}, what), el('dd', { class: 'mono' }, digest)])));
}

function table(caption, heads, rows) {
  if (rows.length === 0) return el('p', {}, caption);
  return el('table', {}, el('thead', {}, el('tr', {}, ...heads.map((h) => el('th', { scope: 'col' }, h)))), el('tbody', {}, ...rows));
}

function showParties({ fold: f }) {
  const consent = (party) => ['execution', 'logging', 'telemetry'].map((scope) => [scope, f.consents.get(`${party} ${scope}`)]).filter(([, c]) => c)
    .map(([scope, c]) => el('div', {}, chip(c.withdrawn ? 'bad' : 'good', `${scope} ${c.withdrawn ? 'withdrawn' : 'granted'}`), ' ', when(c.time)));
  const fingerprint = new Map([...f.keys].map(([fp, p]) => [p.name, fp]));
  at('parties').replaceChildren(table('No parties yet.', ['Party', 'Version ' + (f.contract?.version ?? ''), 'Consent', 'Signing key'], (f.contract?.parties ?? []).map((p) => el('tr', {},
    el('th', { scope: 'row' }, p.name),
    el('td', {}, ...(f.approvals.has(p.name) ? [chip('good', 'approved'), el('div', { class: 'hint' }, when(f.approvals.get(p.name)))] : [chip(f.ended === p.name ? 'bad' : '', f.ended === p.name ? f.status : 'not approved')])),
    el('td', {}, ...(consent(p.name).length ? consent(p.name) : ['none'])),
    el('td', {}, short(fingerprint.get(p.name) ?? ''))))));
}

function showRuns({ fold: f }) {
  const state = (r) => !r.end ? chip('', 'incomplete: no end recorded') : r.end.complete ? chip('good', `complete, exit code ${r.end.exit}`) : chip('bad', because(r.end.detail));
  const because = (why) => `incomplete${why ? `: ${why}` : ''}`;
  at('runs').replaceChildren(table('No run has begun.', ['Run', 'Version', 'Began', 'Records', 'Came to'], [...f.runs.values()].reverse().map((r) => el('tr', {},
    el('th', { scope: 'row' }, el('code', {}, r.id)), el('td', {}, String(r.version)), el('td', {}, when(r.began)), el('td', {}, String(r.sequence)), el('td', {}, state(r))))));
}

function mark(seen, checked) {
  if (seen.problem) return chip('bad', seen.forged ? 'not authentic' : 'not acceptable');
  return checked === 'all' ? chip('good', 'verified') : chip('', checked ? 'signature holds' : 'not verified');
}

function item(seen, checked) {
  const s = seen.statement;
  return el('li', { class: seen.problem ? 'is-bad' : checked === 'all' ? 'is-good' : '', id: `entry-${seen.index}` },
    el('div', { class: 'meta' }, `entry ${seen.index}`, s ? when(s.time) : '', mark(seen, checked)),
    el('div', { class: 'what' }, el('span', { class: 'who' }, seen.by || 'unknown'), ' ', s ? words(s) : 'An entry that cannot be read'),
    seen.problem ? el('div', { class: 'why' }, `Refused: ${seen.problem}`) : '',
    s ? el('details', {}, el('summary', {}, 'Exact words'), el('pre', {}, JSON.stringify(s.body, null, 2))) : '');
}

function show() {
  showContract(current);
  showParties(current);
  showRuns(current);
  const list = current.seen.slice(-shown).reverse();
  at('trail').replaceChildren(...list.map((s) => item(s, current.checked)));
  at('more').hidden = shown >= current.seen.length;
}

function verdict(kind, title, ...lines) {
  at('verdict').className = `verdict ${kind}`;
  at('verdict').replaceChildren(el('strong', {}, title), lines.length ? el('ul', {}, ...lines.map((l) => el('li', {}, l))) : '');
}

// verify checks all that a browser can, and says all that does not hold.
async function verify(line) {
  const key = await parseKey(line);
  const log = await readLog();
  const hashes = await leaves(log.entries);
  const { fold: f, seen } = await fold(log, hashes, true);
  const wrong = [];
  if (!await verifyCheckpoint(log.checkpoint, key)) wrong.push('The checkpoint is not signed with this ledger key.');
  if (!sameHash(await root(hashes), log.checkpoint.root)) wrong.push(`The ${log.entries.length} entries do not have the root of the checkpoint: an entry was changed, moved, dropped or put in.`);
  for (const s of seen.filter((x) => x.problem).slice(0, 20)) wrong.push(`Entry ${s.index}: ${s.problem}.`);
  current = { fold: f, seen, checked: wrong.length === 0 ? 'all' : seen.some((x) => x.problem) ? 'some' : '' };
  show();
  if (wrong.length) return verdict('bad', 'This record does not hold.', ...wrong);
  verdict('good', 'This record holds.', `The checkpoint is signed by ${log.checkpoint.origin}.`, `All ${log.entries.length} entries are in its tree.`,
    `Every statement is signed by the key of who says it, none is replayed, and no run’s records have a gap.`);
}

async function onVerify(event) {
  event.preventDefault();
  at('verify').disabled = true;
  verdict('', 'Checking…');
  try {
    await verify(at('key').value);
  } catch (e) {
    verdict('bad', 'It could not be checked.', e.message || String(e));
  } finally {
    at('verify').disabled = false;
  }
}

async function start() {
  at('form').addEventListener('submit', onVerify);
  at('more').addEventListener('click', () => { shown += step; show(); });
  at('key').value = new URLSearchParams(location.hash.slice(1).replaceAll('+', '%2B')).get('key') ?? '';
  try {
    const log = await readLog();
    const hashes = await leaves(log.entries);
    current = { ...await fold(log, hashes, false), checked: '' };
    show();
  } catch (e) {
    at('status').textContent = 'cannot be read';
    verdict('bad', 'The ledger cannot be read.', e.message || String(e));
  }
  document.documentElement.dataset.ready = 'yes';
}

start();
