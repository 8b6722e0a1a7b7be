// Bytes, as WebCrypto and the log have them.
export const utf8 = new TextEncoder();

export function bytesOf(base64) {
  const binary = atob(base64);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < out.length; i++) out[i] = binary.charCodeAt(i);
  return out;
}

const digits = Array.from({ length: 256 }, (_, b) => b.toString(16).padStart(2, '0'));
export const hexOf = (bytes) => Array.from(bytes, (b) => digits[b]).join('');

export function concat(...parts) {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) { out.set(p, at); at += p.length; }
  return out;
}

export const sameBytes = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);
export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
export const digestOf = async (bytes) => 'sha256:' + hexOf(await sha256(bytes));
