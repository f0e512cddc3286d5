// @ts-check
/** From float16, as the weights are stored, to float32, as they are used. */

/** @type {Float32Array | undefined} */
let table;

/** The float32 of each of the 65,536 float16. */
function halves() {
  if (table) return table;
  table = new Float32Array(1 << 16);
  for (let bits = 0; bits < 1 << 16; bits++) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size =
      exponent === 31
        ? fraction
          ? NaN
          : Infinity
        : exponent
          ? 2 ** (exponent - 15) * (1 + fraction / 1024)
          : 2 ** -24 * fraction;
    table[bits] = bits >> 15 ? -size : size;
  }
  return table;
}

/**
 * Write the weights, one tensor after the other; they by parameter name.
 * @param {Float32Array} wide
 * @param {ArrayBuffer} content float16, little-endian, in the order of `tensors`
 * @param {Record<string, number[]>} tensors their shapes
 * @returns {Record<string, Float32Array>}
 */
export function widened(wide, content, tensors) {
  const from = halves();
  const half = new Uint16Array(content);
  for (let i = 0; i < half.length; i++) wide[i] = from[half[i]];
  /** @type {Record<string, Float32Array>} */
  const found = {};
  let start = 0;
  for (const [name, shape] of Object.entries(tensors)) {
    const end = start + shape.reduce((a, b) => a * b);
    found[name] = wide.subarray(start, end);
    start = end;
  }
  return found;
}
