// @ts-check
/** Files of the page: fetched, and checked before anything is read from them. */

/** What went wrong, in a sentence for the reader. */
export class Trouble extends Error {}

/**
 * @param {string} folder where the page's files lie
 * @param {string} name
 * @returns {Promise<Response>}
 */
async function answer(folder, name) {
  let found;
  try {
    found = await fetch(folder + name);
  } catch {
    throw new Trouble(`The file ${name} could not be fetched.`);
  }
  if (!found.ok) throw new Trouble(`The file ${name} is missing (${found.status}).`);
  return found;
}

/**
 * The facts: what is offered, the pieces, the shapes, the lengths of the other files.
 * @param {string} folder
 * @returns {Promise<any>}
 */
export async function facts(folder) {
  const found = await answer(folder, "facts.json");
  try {
    return await found.json();
  } catch {
    throw new Trouble("The file facts.json is damaged.");
  }
}

/**
 * A file whose length and sha256 are those of the facts.
 * @param {string} folder
 * @param {Record<string, {bytes: number, sha256: string}>} files
 * @param {string} name
 * @returns {Promise<ArrayBuffer>}
 */
export async function file(folder, files, name) {
  const response = await answer(folder, name);
  let content;
  try {
    content = await response.arrayBuffer();
  } catch {
    throw new Trouble(`The file ${name} broke off while it was fetched.`);
  }
  const { bytes, sha256 } = files[name];
  if (content.byteLength !== bytes)
    throw new Trouble(
      `The file ${name} has ${content.byteLength} bytes; it must have ${bytes}.`,
    );
  // a page that is served without https, but by this machine, has no sums
  if (globalThis.crypto?.subtle && (await digest(content)) !== sha256)
    throw new Trouble(`The file ${name} is damaged: its sha256 is another.`);
  return content;
}

/**
 * The sha256 of some bytes, in hexadecimal.
 * @param {BufferSource} content
 */
export async function digest(content) {
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
