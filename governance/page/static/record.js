// The record: the whole log read once, a bundle at a time, and what is kept of it.
// Of the entries nothing stays: one hash for each 256 of them, so that what is
// fetched again to be shown is what was checked; the fold; and what was wrong.
import { bytesOf, sameBytes } from './bytes.js';
import { Fold } from './fold.js';
import { cosignedAt, root, verifyCheckpoint, width } from './log.js';
import { Ring, prepare } from './statements.js';

const maxProblems = 1000; // that are remembered; more are counted

// survey reads the log under a checkpoint. With check it verifies signatures.
// progress is told how many entries are read, and ends it by throwing.
export async function survey(server, checkpoint, check, progress) {
  const fold = new Fold(new Ring());
  const r = { checkpoint, fold, roots: [], problems: new Map(), wrong: 0, checked: '' };
  let index = 0;
  for await (const entries of server.bundles(checkpoint.size)) {
    const bundle = await prepare(entries, fold.ring, check);
    r.roots.push(bundle.root);
    for (const s of bundle.list) {
      const problem = fold.add(index, s);
      if (problem && ++r.wrong && r.problems.size < maxProblems) r.problems.set(index, problem);
      index++;
    }
    progress(index);
  }
  r.rooted = sameBytes(await root(r.roots), checkpoint.root);
  return r;
}

// judge is what is wrong with a record that was read with check, in words.
export async function judge(r, key) {
  const wrong = [];
  if (!await verifyCheckpoint(r.checkpoint, key)) wrong.push({ text: 'The checkpoint is not signed with this ledger key.' });
  if (!r.rooted) wrong.push({ text: `The ${r.checkpoint.size} entries do not have the root of the checkpoint: an entry was changed, moved, dropped or put in.` });
  const witnesses = await cosigned(r);
  if (witnesses.wrong) wrong.push({ text: witnesses.wrong });
  for (const [entry, { why }] of [...r.problems].slice(0, 20)) wrong.push({ entry, text: `Entry ${entry}: ${why}.` });
  if (r.wrong > 20) wrong.push({ text: `${r.wrong} entries are not acceptable; the first 20 are named.` });
  r.checked = wrong.length === 0 ? 'all' : r.wrong ? 'some' : '';
  return { wrong, witnesses: witnesses.text };
}

// specification is the newest version's, or null where it did not come with one.
export function specification({ fold }) {
  return fold.specification ? JSON.parse(new TextDecoder().decode(bytesOf(fold.specification))) : null;
}

// cosigned holds the checkpoint to the witnesses that the specification names.
async function cosigned(r) {
  const { witnesses = [], threshold } = specification(r)?.governance ?? {};
  if (!witnesses.length) return { text: r.fold.specification ? 'The specification names no witness: that there is nothing newer is this ledger’s word.' : '' };
  const needed = threshold || witnesses.length;
  const times = (await Promise.all(witnesses.map((w) => cosignedAt(r.checkpoint, w)))).filter((t) => t !== null);
  if (times.length < needed) return { wrong: `${times.length} of the ${witnesses.length} witnesses cosigned the checkpoint, ${needed} must.` };
  return { text: `${times.length} of ${witnesses.length} witnesses cosigned the checkpoint, the last at ${new Date(Math.max(...times) * 1000).toISOString()}.` };
}

// entriesOf returns entries to show, fetched again. r is what was surveyed, or null.
export async function entriesOf(server, checkpoint, r, from, to) {
  const shown = [];
  const ring = new Ring();
  for (let n = Math.floor(from / width); n * width < to; n++) {
    const bundle = await prepare(await server.bundle(n, checkpoint.size), ring, false);
    const other = r && !sameBytes(bundle.root, r.roots[n]);
    bundle.list.forEach((s, i) => {
      const index = n * width + i;
      if (index < from || index >= to) return;
      const problem = other ? { why: 'the server now shows other entries here than before', forged: true } : r?.problems.get(index);
      shown.push({ index, statement: s.malformed ? null : s, problem: problem ?? null });
    });
  }
  return shown;
}
