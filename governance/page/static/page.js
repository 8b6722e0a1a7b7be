// The page: it reads the log, shows it, and checks it when asked. Text from the
// log goes into the document as text nodes only.
import { NotAllowed, Server, parseLedgerKey } from './log.js';
import { scopes } from './fold.js';
import { entriesOf, judge, specification, survey } from './record.js';
import { clauses, said } from './words.js';

const at = (id) => document.getElementById(id);
const step = 100;      // entries shown at once
const runsShown = 50;

const server = new Server();
let record = null;     // what was surveyed last; nothing is shown of a part
let size = 0;          // of the log whose entries are shown
let to = 0;            // entries up to here are shown
let reads = 0;         // that have come to an end
let turn = 0;          // of what reads the log: a newer one ends it

function el(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...children.filter((c) => c !== null && c !== ''));
  return e;
}
const when = (t) => el('time', { datetime: t }, t.replace('T', ' ').replace(/\.\d+Z$/, ' UTC'));
const short = (digest) => el('code', { title: digest }, `${digest.slice(0, 15)}…${digest.slice(-4)}`);
const chip = (kind, text) => el('span', { class: `chip ${kind}` }, text);
const list = (items) => el('ul', { class: 'plain' }, ...items.map((text) => el('li', {}, text)));
const number = (n) => n.toLocaleString('en');
const entries = (n) => `${number(n)} ${n === 1 ? 'entry' : 'entries'}`;
const jump = (entry, text) => {
  const button = el('button', { type: 'button', class: 'link' }, text);
  button.addEventListener('click', () => show(entry));
  return button;
};

// table is one whose rows are blocks where the window is narrow: each cell then
// has its column's name before it, and the roles say what the layout took away.
function table(empty, heads, rows) {
  if (rows.length === 0) return el('p', {}, empty);
  const cell = (c, i) => el(i ? 'td' : 'th', { role: i ? 'cell' : 'rowheader', 'data-head': heads[i], ...(i ? {} : { scope: 'row' }) }, ...[c].flat());
  return el('table', { role: 'table' },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, ...heads.map((h) => el('th', { scope: 'col', role: 'columnheader' }, h)))),
    el('tbody', { role: 'rowgroup' }, ...rows.map((cells) => el('tr', { role: 'row' }, ...cells.map(cell)))));
}

const kindOf = (status) => (status === 'accepted' ? 'good' : ['rejected', 'withdrawn'].includes(status) ? 'bad' : '');

function showContract({ fold: f }) {
  const k = f.contract;
  at('title').textContent = k ? `Contract ${k.id}` : 'Contract ledger';
  document.title = at('title').textContent;
  at('status').textContent = k ? `version ${k.version} ${f.status}` : 'nothing proposed yet';
  at('status').className = `chip ${kindOf(f.status)}`;
  if (!k) return at('contract').replaceChildren(el('p', {}, 'Nothing has been proposed in this ledger yet.'));
  const names = k.parties.map((p) => p.name);
  const pinned = [['Specification', k.specification], ['Container policy', k.containerPolicy], ['Key release policy', k.keyReleasePolicy], ['Contract', f.digest]];
  at('contract').replaceChildren(
    el('p', {}, `${agreement(names, f.status)} one program may run over these files, in an enclave that proves it runs under the container policy below, and nowhere else.`),
    ...clauses(k, specification({ fold: f })).flatMap(([heading, sentences]) => [el('h3', {}, heading), list(sentences)]),
    el('h3', {}, 'What an approval binds'),
    el('dl', {}, ...pinned.flatMap(([what, digest]) => [el('dt', {}, what), el('dd', { class: 'mono' }, digest)])),
    el('h3', {}, 'How it came about'), table('', ['Version', 'Brought by', 'Approved by', 'Came to'], f.versions.map((v) => versionRow(v, f))));
}

function agreement(names, status) {
  const all = new Intl.ListFormat('en').format(names);
  if (status === 'accepted') return `${all} ${names.length === 1 ? 'agrees' : 'agree'} that`;
  return `${status === 'proposed' ? 'Not agreed yet' : `No longer on: it is ${status}`}. What ${all} would agree on is that`;
}

function versionRow(v, f) {
  const newest = v.version === f.contract.version;
  const lapsed = newest ? f.status : v.ended?.status ?? 'amended';
  return [jump(v.index, `version ${v.version}`), [v.by, el('div', { class: 'hint' }, when(v.time))],
    v.approvals.size ? [...v.approvals].map(([party, time]) => el('div', {}, party, el('div', { class: 'hint' }, when(time)))) : 'nobody',
    [chip(kindOf(lapsed), lapsed), v.ended ? el('div', { class: 'hint' }, `by ${v.ended.by}${v.ended.reason ? `: ${v.ended.reason}` : ''}`) : '']];
}

function showParties({ fold: f }) {
  const consent = (party) => scopes.map((scope) => [scope, f.consents.get(`${party} ${scope}`)]).filter(([, c]) => c)
    .map(([scope, c]) => el('div', { class: 'said' }, chip(c.withdrawn ? 'bad' : 'good', `${scope} ${c.withdrawn ? 'withdrawn' : 'granted'}`), ' ', el('span', { class: 'hint' }, when(c.time))));
  const fingerprint = new Map([...f.keys].map(([fp, name]) => [name, fp]));
  const vote = (name) => (f.approvals.has(name) ? [chip('good', 'approved'), el('div', { class: 'hint' }, when(f.approvals.get(name)))] : chip('', 'not approved'));
  at('parties').replaceChildren(table('No parties yet.', ['Party', `Version ${f.contract?.version ?? ''}`, 'Consent', 'Signing key'],
    (f.contract?.parties ?? []).map((p) => [p.name, vote(p.name), consent(p.name).length ? consent(p.name) : 'none', short(fingerprint.get(p.name) ?? '')])));
}

function showRuns({ fold: f }) {
  const end = ({ end: e }) => (!e ? chip('', 'incomplete: no end recorded') : e.complete ? chip('good', `complete, exit code ${e.exit}`) : chip('bad', `incomplete${e.detail ? `: ${e.detail}` : ''}`));
  const all = [...f.runs.values()];
  const rows = all.slice(-runsShown).reverse().map((r) => [jump(r.index, el('code', {}, r.id)), String(r.version), when(r.began), String(r.sequence), end(r)]);
  at('runs').replaceChildren(table('No run has begun.', ['Run', 'Version', 'Began', 'Records', 'Came to'], rows),
    all.length > runsShown ? el('p', { class: 'hint' }, `The newest ${runsShown} of ${number(all.length)} runs.`) : '');
}

function mark(problem) {
  if (problem) return chip('bad', problem.forged ? 'not authentic' : 'not acceptable');
  return record?.checked === 'all' ? chip('good', 'verified') : chip('', record?.checked ? 'signature holds' : 'not verified');
}

function item({ index, statement: s, problem }) {
  const by = s && (s.body.run ? 'enclave' : record?.fold.names.get(s.key));
  return el('li', { class: problem ? 'is-bad' : record?.checked === 'all' ? 'is-good' : '', id: `entry-${index}`, value: index, tabindex: -1 },
    el('div', { class: 'meta' }, `entry ${number(index)}`, s ? when(s.time) : '', mark(problem)),
    el('div', { class: 'what' }, el('span', { class: 'who' }, by || 'unknown'), ' ', s ? said(s) : 'An entry that cannot be read'),
    problem ? el('div', { class: 'why' }, `Refused: ${problem.why}`) : '',
    s ? el('details', {}, el('summary', {}, 'Exact words'), el('pre', {}, JSON.stringify(s.body, null, 2))) : '');
}

// showTrail shows the entries before one, newest first.
async function showTrail(before) {
  to = Math.max(Math.min(before, size), Math.min(step, size));
  const from = Math.max(0, to - step);
  const shown = await entriesOf(server, { size }, record, from, to);
  at('trail-card').hidden = false;
  at('trail').replaceChildren(...shown.reverse().map(item));
  at('shown').textContent = size ? `Entries ${number(from)} to ${number(to - 1)} of ${number(size)}, newest first.` : 'No entry yet.';
  at('later').disabled = at('newest').disabled = to >= size;
  at('earlier').disabled = from === 0;
  at('pages').hidden = size <= step;
}

// show shows an entry in the trail, and goes there.
const show = told(async (entry) => {
  await showTrail(Math.min(size, entry + step / 2));
  const e = at(`entry-${entry}`);
  e?.scrollIntoView({ block: 'center' });
  e?.focus({ preventScroll: true });
});

function verdict(kind, title, ...lines) {
  at('verdict').className = `verdict ${kind}`;
  at('verdict').replaceChildren(el('strong', {}, title), lines.length ? el('ul', {}, ...lines.filter(Boolean).map((l) => el('li', {}, l))) : '');
}

// unjudged says what a verified record still leaves to another program.
const unjudged = (runs) => (runs ? `The evidence of ${number(runs)} ${runs === 1 ? 'run' : 'runs'} is not judged here: cloister audit verify --platform does.` : '');

// told has an action say what went wrong, and lets a reader in who may not read.
function told(action, done = () => {}) {
  return async (...args) => {
    try {
      await action(...args);
    } catch (e) {
      if (e instanceof Replaced) return;
      at('reader').hidden = at('reader').hidden && !(e instanceof NotAllowed);
      if (e instanceof NotAllowed) verdict('', 'This record is for its parties.', server.token ? e.message : '', 'Give a read token above.');
      else verdict('bad', 'It could not be checked.', e.message || String(e));
      if (!record) at('status').textContent = 'not read';
    } finally {
      done();
    }
  };
}

class Replaced extends Error {}

// read surveys the log as it is now, and shows it.
async function read(check) {
  const mine = ++turn;
  const checkpoint = await server.checkpoint();
  if (!check) {
    size = checkpoint.size; // the newest entries are there at once
    await showTrail(size);
    document.documentElement.dataset.shown = 'yes';
  }
  const found = await survey(server, checkpoint, check, (n) => {
    if (mine !== turn) throw new Replaced();
    at('progress').hidden = n >= checkpoint.size;
    at('progress').value = n / checkpoint.size;
    at('progress').textContent = `${entries(n)} of ${number(checkpoint.size)} ${check ? 'checked' : 'read'}`;
  });
  if (mine !== turn) throw new Replaced();
  return found;
}

async function display(found) {
  [record, size] = [found, found.checkpoint.size];
  for (const part of [showContract, showParties, showRuns]) part(record);
  at('state').hidden = false;
  await showTrail(found.problems.size ? [...found.problems.keys()][0] + step / 2 : size);
}

const onRead = told(async () => {
  verdict('', '');
  at('verdict').replaceChildren();
  await display(await read(false));
}, () => { document.documentElement.dataset.ready = ++reads; });

const onVerify = told(async () => {
  verdict('', 'Checking…');
  const key = await parseLedgerKey(at('key').value);
  const found = await read(true);
  const { wrong, witnesses } = await judge(found, key);
  await display(found);
  if (wrong.length) return verdict('bad', 'This record does not hold.', ...wrong.map((w) => ('entry' in w ? jump(w.entry, w.text) : w.text)));
  verdict('good', 'This record holds.', `The checkpoint is signed by ${found.checkpoint.origin}.`, witnesses, `All ${entries(size)} are in its tree.`,
    'Every statement is signed by the key of who says it, none is replayed, no run’s records have a gap, and each step of a run had consent.',
    unjudged(found.fold.runs.size));
}, () => { at('verify').disabled = false; at('progress').hidden = true; });

function start() {
  const on = (id, event, act) => at(id).addEventListener(event, (e) => { e.preventDefault(); act(); });
  on('form', 'submit', () => { at('verify').disabled = true; onVerify(); });
  on('reader', 'submit', () => { server.token = at('token').value.trim(); at('token').value = ''; at('reader').hidden = true; onRead(); });
  on('newest', 'click', told(() => showTrail(size)));
  on('later', 'click', told(() => showTrail(to + step)));
  on('earlier', 'click', told(() => showTrail(to - step)));
  on('goto', 'submit', () => show(Math.min(size - 1, Math.max(0, Number(at('entry').value) || 0))));
  at('key').value = new URLSearchParams(location.hash.slice(1).replaceAll('+', '%2B')).get('key') ?? '';
  onRead();
}

start();
