// The log: what the server says it is, and what a browser can check of that.
import { bytesOf, concat, hexOf, sameBytes, sha256, utf8 } from './bytes.js';

export const width = 256; // entries of a bundle, C2SP tlog-tiles

// parseCheckpoint reads a signed note whose text is a C2SP tlog-checkpoint.
export function parseCheckpoint(signed) {
  const cut = signed.lastIndexOf('\n\n');
  const lines = signed.slice(0, cut + 1).split('\n');
  const size = Number(lines[1]);
  if (cut < 0 || lines.length < 4 || !Number.isSafeInteger(size) || size < 0 || String(size) !== lines[1]) throw new Error('the server’s checkpoint is malformed');
  return { origin: lines[0], size, root: bytesOf(lines[2]), text: signed.slice(0, cut + 1), signatures: signed.slice(cut + 2).split('\n') };
}

// The types of a verifier key, C2SP signed-note: Ed25519, and a witness's Ed25519
// over the checkpoint with its time before it.
const ledgerType = 1;
const witnessType = 4;

// parseKey reads a verifier key of a signed note: name+hash+base64(type ‖ key).
async function parseKey(line, type) {
  const m = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)$/.exec(line.trim());
  if (!m) throw new Error('this is not a ledger key: it has the form name+hash+key');
  const key = bytesOf(m[3]);
  const hash = (await sha256(concat(utf8.encode(m[1] + '\n'), key))).slice(0, 4);
  if (key.length !== 33 || key[0] !== type || hexOf(hash) !== m[2]) throw new Error('this ledger key has a typing mistake: its hash does not fit');
  return { name: m[1], hash, key: await crypto.subtle.importKey('raw', key.slice(1), 'Ed25519', false, ['verify']) };
}

export const parseLedgerKey = (line) => parseKey(line, ledgerType);

// signatures returns what stands behind the key's hash on each of its lines.
const signatures = (checkpoint, key) => checkpoint.signatures.map((line) => /^— (\S+) ([A-Za-z0-9+/]+=*)$/.exec(line))
  .filter((m) => m && m[1] === key.name).map((m) => bytesOf(m[2])).filter((sig) => sameBytes(sig.slice(0, 4), key.hash)).map((sig) => sig.slice(4));

// verifyCheckpoint says whether the key signed the checkpoint, as the log it names.
export async function verifyCheckpoint(checkpoint, key) {
  if (checkpoint.origin !== key.name) return false;
  for (const sig of signatures(checkpoint, key)) {
    if (await crypto.subtle.verify('Ed25519', key.key, sig, utf8.encode(checkpoint.text))) return true;
  }
  return false;
}

// cosignedAt returns when a witness cosigned the checkpoint (C2SP
// tlog-cosignature), in seconds since 1970, and null where it did not.
export async function cosignedAt(checkpoint, line) {
  const key = await parseKey(line, witnessType);
  for (const sig of signatures(checkpoint, key)) {
    if (sig.length !== 72) continue;
    const time = Number(new DataView(sig.buffer).getBigUint64(0));
    const message = utf8.encode(`cosignature/v1\ntime ${time}\n${checkpoint.text}`);
    if (await crypto.subtle.verify('Ed25519', key.key, sig.slice(8), message)) return time;
  }
  return null;
}

export const leafHash = (entry) => sha256(concat(Uint8Array.of(0), entry));
const node = (l, r) => sha256(concat(Uint8Array.of(1), l, r));

// root is the RFC 6962 root over the roots of subtrees of one size, the last of
// which may be smaller: a level's odd last node moves up.
export async function root(level) {
  if (level.length === 0) return sha256(new Uint8Array(0));
  while (level.length > 1) {
    const up = [];
    for (let i = 0; i + 1 < level.length; i += 2) up.push(node(level[i], level[i + 1]));
    const next = await Promise.all(up);
    if (level.length % 2) next.push(level[level.length - 1]);
    level = next;
  }
  return level[0];
}

// NotAllowed is the server's refusal to let this reader read.
export class NotAllowed extends Error {}

// Server reads the log that the page is served beside. The read token is kept
// here, in memory, and nowhere else.
export class Server {
  token = '';

  async get(path) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    // What is read is not for a disk: nothing is kept in the browser's cache.
    const response = await fetch(new URL(`../${path}`, document.baseURI), { headers, cache: 'no-store', credentials: 'omit', redirect: 'error' });
    if (response.ok) return response;
    if (response.status === 401 || response.status === 403) throw new NotAllowed(await reason(response));
    throw new Error(`the server answers ${response.status} to ${path}`);
  }

  async checkpoint() { return parseCheckpoint(await (await this.get('checkpoint')).text()); }

  // bundle returns the entries of the n-th bundle of a log of so many entries.
  async bundle(n, size) {
    const count = Math.min(width, size - n * width);
    const raw = new Uint8Array(await (await this.get(bundlePath(n, count))).arrayBuffer());
    const list = [];
    for (let at = 0; list.length < count;) {
      const end = at + 2 + raw[at] * 256 + raw[at + 1];
      if (!(end <= raw.length)) throw new Error('the server’s entries break off');
      list.push(raw.subarray(at + 2, end));
      at = end;
    }
    return list;
  }

  // bundles yields every bundle, a few of which are on their way ahead of it.
  async* bundles(size, ahead = 4) {
    const coming = [];
    for (let n = 0, next = 0; n * width < size; n++) {
      for (; next * width < size && next < n + ahead; next++) {
        const bundle = this.bundle(next, size);
        bundle.catch(() => {}); // told when its turn comes
        coming.push(bundle);
      }
      yield await coming.shift();
    }
  }
}

async function reason(response) {
  try { return (await response.json()).detail ?? ''; } catch { return `the server answers ${response.status}`; }
}

function bundlePath(n, count) {
  let name = String(n % 1000).padStart(3, '0');
  for (n = Math.floor(n / 1000); n > 0; n = Math.floor(n / 1000)) name = `x${String(n % 1000).padStart(3, '0')}/${name}`;
  return `tile/entries/${name}${count < width ? `.p/${count}` : ''}`;
}
