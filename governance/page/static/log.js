// The log: what the server says it is, and what a browser can check of that.
const utf8 = new TextEncoder();
const width = 256; // entries of a bundle, C2SP tlog-tiles

export const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
export const hexOf = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
export const concat = (...parts) => {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) { out.set(p, at); at += p.length; }
  return out;
};
export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
const equal = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);

// parseCheckpoint reads a signed note whose text is a C2SP tlog-checkpoint.
export function parseCheckpoint(signed) {
  const cut = signed.lastIndexOf('\n\n');
  const lines = signed.slice(0, cut + 1).split('\n');
  const size = Number(lines[1]);
  if (cut < 0 || lines.length < 4 || !Number.isSafeInteger(size) || size < 0 || String(size) !== lines[1]) throw new Error('the server’s checkpoint is malformed');
  return { origin: lines[0], size, root: bytesOf(lines[2]), text: signed.slice(0, cut + 1), signatures: signed.slice(cut + 2).split('\n') };
}

// parseKey reads a verifier key of a signed note: name+hash+base64(1 ‖ Ed25519 key).
export async function parseKey(line) {
  const m = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)$/.exec(line.trim());
  if (!m) throw new Error('this is not a ledger key: it has the form name+hash+key');
  const key = bytesOf(m[3]);
  const hash = (await sha256(concat(utf8.encode(m[1] + '\n'), key))).slice(0, 4);
  if (key.length !== 33 || key[0] !== 1 || hexOf(hash) !== m[2]) throw new Error('this ledger key has a typing mistake: its hash does not fit');
  return { name: m[1], hash, key: await crypto.subtle.importKey('raw', key.slice(1), 'Ed25519', false, ['verify']) };
}

// verifyCheckpoint says whether the key signed the checkpoint, as the log it names.
export async function verifyCheckpoint(checkpoint, key) {
  if (checkpoint.origin !== key.name) return false;
  for (const line of checkpoint.signatures) {
    const m = /^— (\S+) ([A-Za-z0-9+/]+=*)$/.exec(line);
    if (!m || m[1] !== key.name) continue;
    const sig = bytesOf(m[2]);
    if (equal(sig.slice(0, 4), key.hash) && await crypto.subtle.verify('Ed25519', key.key, sig.slice(4), utf8.encode(checkpoint.text))) return true;
  }
  return false;
}

const leaf = (entry) => sha256(concat(Uint8Array.of(0), entry));
const node = (l, r) => sha256(concat(Uint8Array.of(1), l, r));

// leaves hashes entries, some thousand at once.
export async function leaves(entries) {
  const out = [];
  for (let i = 0; i < entries.length; i += 4096) out.push(...await Promise.all(entries.slice(i, i + 4096).map(leaf)));
  return out;
}

// root is the RFC 6962 root over leaf hashes: a tree's odd last node moves up.
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

export const sameHash = equal;

async function get(path) {
  const response = await fetch(path, { credentials: 'same-origin', cache: 'no-cache' });
  if (!response.ok) throw new Error(`the server answers ${response.status} to ${path}`);
  return response;
}

const bundlePath = (n, count) => {
  let name = String(n % 1000).padStart(3, '0');
  for (n = Math.floor(n / 1000); n > 0; n = Math.floor(n / 1000)) name = `x${String(n % 1000).padStart(3, '0')}/${name}`;
  return `tile/entries/${name}${count < width ? `.p/${count}` : ''}`;
};

async function readBundle(n, count) {
  const raw = new Uint8Array(await (await get(bundlePath(n, count))).arrayBuffer());
  const list = [];
  for (let at = 0; list.length < count;) {
    const end = at + 2 + raw[at] * 256 + raw[at + 1];
    if (!(end <= raw.length)) throw new Error('the server’s entries break off');
    list.push(raw.slice(at + 2, end));
    at = end;
  }
  return list;
}

// readLog returns the newest checkpoint and every entry that it covers.
export async function readLog() {
  const checkpoint = parseCheckpoint(await (await get('checkpoint')).text());
  const bundles = [];
  for (let n = 0; n * width < checkpoint.size; n++) bundles.push([n, Math.min(width, checkpoint.size - n * width)]);
  const entries = [];
  for (let i = 0; i < bundles.length; i += 8) {
    for (const list of await Promise.all(bundles.slice(i, i + 8).map(([n, count]) => readBundle(n, count)))) entries.push(...list);
  }
  return { checkpoint, entries };
}
