/**
 * From scores to masks of single weights, as utils/masks.py makes them: exactly
 * `round(sparsity * n)` of n weights go, and of equal scores the first ones stay.
 */

/**
 * To the nearest whole number; a half goes to the even one, as Python rounds.
 * @param {number} x
 */
export function round(x) {
  const low = Math.floor(x);
  const rest = x - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 ? low + 1 : low;
}

/**
 * Which weights stay: 1, or 0.
 * @param {Float32Array} scores  of all layers, one after another; none below 0
 * @param {number[]} sizes  weights of each layer
 * @param {number} sparsity
 * @param {string} scope  "global", one threshold for all; "layerwise", the same sparsity
 *   in each layer
 */
export function weightMask(scores, sizes, sparsity, scope) {
  const mask = new Uint8Array(scores.length);
  if (scope === "global") keepLargest(scores, sparsity, mask);
  let start = 0;
  for (const size of scope === "layerwise" ? sizes : []) {
    const end = start + size;
    keepLargest(scores.subarray(start, end), sparsity, mask.subarray(start, end));
    start = end;
  }
  return mask;
}

/**
 * Mark the largest scores. The bits of floats that are not negative are in the order of
 * the numbers, so whole numbers are compared: first their upper halves are counted, then
 * the lower ones of those that share the threshold's.
 * @param {Float32Array} scores
 * @param {number} sparsity
 * @param {Uint8Array} mask  written into
 */
function keepLargest(scores, sparsity, mask) {
  const kept = scores.length - round(sparsity * scores.length);
  const bits = new Uint32Array(scores.buffer, scores.byteOffset, scores.length);
  const halves = new Uint32Array(0x10000);
  for (let i = 0; i < bits.length; i++) halves[bits[i] >>> 16]++;
  const [upper, above] = threshold(halves, kept);
  halves.fill(0);
  for (let i = 0; i < bits.length; i++)
    if (bits[i] >>> 16 === upper) halves[bits[i] & 0xffff]++;
  const [lower, higher] = threshold(halves, kept - above);
  const least = upper * 0x10000 + lower;
  for (let i = 0; i < bits.length; i++) mask[i] = Number(bits[i] > least);
  let equal = kept - above - higher; // of those at the threshold so many stay
  for (let i = bits.indexOf(least); equal-- > 0; i = bits.indexOf(least, i + 1)) mask[i] = 1;
}

/**
 * The key at which the `kept` largest end, and how many lie above it.
 * @param {Uint32Array} count  how many numbers have each key
 * @param {number} kept
 * @returns {[number, number]}
 */
function threshold(count, kept) {
  let above = 0;
  let at = count.length - 1;
  while (at > 0 && above + count[at] < kept) above += count[at--];
  return [at, above];
}
