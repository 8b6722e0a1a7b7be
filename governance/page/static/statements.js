// The statements: what an entry says, whose keys it brings, and whether the
// signatures are those of the keys that it names.
import { bytesOf, concat, digestOf, hexOf, utf8 } from './bytes.js';
import { leafHash, root } from './log.js';

const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const payloadType = 'application/vnd.cloister.statement.v1+json';

// canonical reads JSON in the form of RFC 8785 and nothing else: one statement has
// one encoding, so none can say two things to two readers.
function canonical(bytes) {
  const raw = text.decode(bytes);
  const value = JSON.parse(raw);
  if (JSON.stringify(sorted(value)) !== raw) throw new Error('it is not in its canonical form');
  return value;
}

function sorted(v) {
  if (v === null || typeof v !== 'object') return v;
  if (Array.isArray(v)) return v.map(sorted);
  return Object.fromEntries(Object.keys(v).sort().map((k) => [k, sorted(v[k])]));
}

// open parses an entry, a DSSE envelope. Nothing of it is authentic yet.
function open(entry) {
  const envelope = canonical(entry);
  if (envelope.payloadType !== payloadType) throw new Error('it is not a statement');
  const payload = bytesOf(envelope.payload);
  const s = canonical(payload);
  if (s.signers.length !== (s.type === 'rotate' ? 3 : 1) || envelope.signatures.length !== s.signers.length) throw new Error('it has not the signers that it takes');
  if (!envelope.signatures.every((x, i) => x.keyid === s.signers[i].key)) throw new Error('its signatures are of other keys than it names');
  const head = `DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `;
  return { ...s, time: String(s.time), key: s.signers[0].key, counter: s.signers[0].counter, message: concat(utf8.encode(head), payload), signatures: envelope.signatures.map((x) => bytesOf(x.sig)) };
}

// keysOf is every key that a statement brings.
function keysOf({ body }) {
  const parties = body.contract ? body.contract.parties.flatMap((p) => [p.key, p.recovery]) : [];
  return [...parties, body.key, body.recovery, body.auditKey].filter((k) => typeof k === 'string');
}

// Ring holds the keys that the log has brought, by fingerprint.
export class Ring {
  keys = new Map();
  fingerprints = new Map(); // by the key in base64

  // add reads a signing key, SubjectPublicKeyInfo in DER.
  async add(base64) {
    if (this.fingerprints.has(base64)) return;
    const spki = bytesOf(base64);
    const algorithm = spki.length === 44 ? 'Ed25519' : { name: 'ECDSA', namedCurve: 'P-256' };
    const key = await crypto.subtle.importKey('spki', spki, algorithm, false, ['verify']);
    const fingerprint = await digestOf(spki);
    this.keys.set(fingerprint, { key, base64, algorithm });
    this.fingerprints.set(base64, fingerprint);
  }

  of(base64) { return this.fingerprints.get(base64); }

  // forget lets go of the key of a run that has ended: nothing is signed with it.
  forget(fingerprint) {
    this.fingerprints.delete(this.keys.get(fingerprint)?.base64);
    this.keys.delete(fingerprint);
  }

  async signed(fingerprint, message, signature) {
    const k = this.keys.get(fingerprint);
    if (!k) return false;
    if (k.algorithm === 'Ed25519') return crypto.subtle.verify('Ed25519', k.key, signature, message);
    return crypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, k.key, rawSignature(signature), message);
  }
}

// rawSignature makes the form that WebCrypto wants of an ECDSA signature in DER.
function rawSignature(der) {
  const out = new Uint8Array(64);
  let at = 2;
  for (const end of [32, 64]) {
    if (der[0] !== 0x30 || der[at] !== 2) return out; // which signs nothing
    let n = der.slice(at + 2, at + 2 + der[at + 1]);
    at += 2 + der[at + 1];
    while (n.length > 32 && n[0] === 0) n = n.slice(1);
    if (n.length > 32) return out;
    out.set(n, end - n.length);
  }
  return out;
}

// prepare does for a bundle all that takes no order: leaf hashes, digests, and,
// with check, signatures. A key is its fingerprint, so whether one signed does not
// hang on what came before; whether it may is for the fold to say.
export async function prepare(entries, ring, check) {
  const list = await Promise.all(entries.map((entry) => prepareOne(entry, ring)));
  if (check) await Promise.all(list.map((s) => authenticate(s, ring)));
  return { list, root: await root(list.map((s) => s.leaf)) };
}

async function prepareOne(entry, ring) {
  const leaf = await leafHash(entry);
  try {
    const s = open(entry);
    await Promise.all(keysOf(s).map((k) => ring.add(k)));
    const { contract, specification, evidence } = s.body;
    if (contract) s.contractDigest = await digestOf(utf8.encode('cloister contract v1\n' + JSON.stringify(contract)));
    if (specification) s.specificationDigest = await digestOf(concat(utf8.encode('cloister specification v1\n'), bytesOf(specification)));
    if (s.type === 'run-begin') s.evidenceDigest = await digestOf(utf8.encode('cloister evidence v1\n' + JSON.stringify(evidence)));
    return Object.assign(s, { leaf, entryDigest: 'sha256:' + hexOf(leaf) });
  } catch (e) {
    return { leaf, malformed: e.message || String(e) };
  }
}

async function authenticate(s, ring) {
  if (s.malformed) return;
  const held = await Promise.all(s.signers.map((id, i) => ring.signed(id.key, s.message, s.signatures[i])));
  s.forged = !held.every((ok, i) => ok || !ring.keys.has(s.signers[i].key));
}
