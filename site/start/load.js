/**
 * Files of the page: fetched, checked by length and sha256, unpacked. What is damaged is
 * refused, and never used in part.
 *
 * @typedef {object} Packed  a file as facts.json describes it
 * @property {string} name
 * @property {number} bytes  of the file
 * @property {string} sha256  of the file, in hexadecimal
 * @property {number} unpacked  bytes of its content, which zlib has packed
 */

export class DamagedFile extends Error {}

/**
 * A file's content, unpacked.
 * @param {Packed} file
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function load(file) {
  const packed = await fetched(file.name);
  if (packed.length !== file.bytes)
    throw new DamagedFile(`${file.name} has ${packed.length} bytes, not ${file.bytes}.`);
  if (((await digest(packed)) ?? file.sha256) !== file.sha256)
    throw new DamagedFile(`${file.name} is not the file that was published.`);
  const content = await inflated(packed, file.name);
  if (content.length !== file.unpacked)
    throw new DamagedFile(`${file.name} unpacks to ${content.length} bytes.`);
  return content;
}

/**
 * A file beside this module.
 * @param {string} name
 */
export async function fetched(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new DamagedFile(`${name} is missing (${answer.status}).`);
  return new Uint8Array(await answer.arrayBuffer());
}

/**
 * In hexadecimal. Browsers offer it to secure pages only (https, localhost); elsewhere
 * zlib's own checksum has to do, and null is returned for want of a better one.
 * @param {Uint8Array<ArrayBuffer>} content
 */
async function digest(content) {
  if (!globalThis.crypto?.subtle) return null;
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(found, byte => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {Uint8Array<ArrayBuffer>} content
 * @param {string} name
 */
async function inflated(content, name) {
  const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream("deflate"));
  try {
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (error) {
    throw new DamagedFile(`${name} cannot be unpacked (${error}).`);
  }
}

/**
 * Numbers of 4 bytes that were stored as four planes, all first bytes first: so they
 * pack better, since neighbours in a plane resemble each other.
 * @param {Uint8Array} planes
 */
export function fromPlanes(planes) {
  const count = planes.length / 4;
  const bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < 4; plane++)
    for (let i = 0; i < count; i++) bytes[4 * i + plane] = planes[plane * count + i];
  return new Float32Array(bytes.buffer);
}

/**
 * Pictures of which each row but the first was stored as the difference from the row
 * above it, in place.
 * @param {Uint8Array} pixels  `[n, 28, 28]`
 * @param {number} side
 */
export function fromDifferences(pixels, side = 28) {
  for (let start = 0; start < pixels.length; start += side * side)
    for (let i = start + side; i < start + side * side; i++) pixels[i] += pixels[i - side];
  return pixels;
}
