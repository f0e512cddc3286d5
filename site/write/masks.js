// @ts-check
/**
 * From scores to masks (`utils.masks.masks_from_scores`): the highest scores are kept,
 * exactly as many as the facts say, of equal ones those that come first.
 *
 * Scores are held as *keys*: whole numbers in the order of the scores, 32 bits each, for
 * all layers one after the other. A mask is a byte a weight, 1 = kept. Both lie in the
 * kernels' memory; what is done with them is in masks.wat.
 */
import { Random } from "./random.js";

/**
 * @typedef {{name: string, start: number, rows: number, columns: number}} Layer
 * @typedef {{layers: number[], kept: number, rows: boolean}} Group who competes
 */

/**
 * The layers that can be pruned, and where each begins.
 * @param {string[]} names
 * @param {Record<string, number[]>} tensors
 * @returns {Layer[]}
 */
export function layersOf(names, tensors) {
  let start = 0;
  return names.map((name) => {
    const [rows, columns] = tensors[name];
    const layer = { name, start, rows, columns };
    start += rows * columns;
    return layer;
  });
}

/**
 * How many weights they have.
 * @param {Layer[]} layers
 */
export const sizeOf = (layers) =>
  layers.reduce((sum, { rows, columns }) => sum + rows * columns, 0);

/**
 * Write the keys of a score.
 * @param {Uint32Array} keys
 * @param {string} score
 * @param {Layer[]} layers
 * @param {Record<string, Float32Array>} weights
 * @param {ArrayBuffer | undefined} read what was fetched for this score
 */
export function writeKeys(keys, score, layers, weights, read) {
  if (score === "random") {
    const random = new Random(0);
    for (let i = 0; i < keys.length; i++) keys[i] = random.bits() & 0xffffff;
  } else if (score === "taylor") keys.set(new Uint8Array(read ?? []));
  else {
    // floats that are not negative are in the order of their bits
    const scores = new Float32Array(keys.buffer, keys.byteOffset, keys.length);
    let norms = new Float32Array(read ?? []);
    for (const { name, start, columns } of layers) {
      writeScores(scores.subarray(start), weights[name], columns, norms);
      norms = norms.subarray(columns);
    }
  }
}

/**
 * `|w|`, times the norm of the input that it multiplies if there is one.
 * @param {Float32Array} scores
 * @param {Float32Array} weight
 * @param {number} columns
 * @param {Float32Array} norms
 */
function writeScores(scores, weight, columns, norms) {
  if (!norms.length)
    for (let i = 0; i < weight.length; i++) scores[i] = Math.abs(weight[i]);
  else
    for (let i = 0; i < weight.length;)
      for (let column = 0; column < columns; column++, i++)
        scores[i] = Math.abs(weight[i]) * norms[column];
}

/**
 * Who competes at a stop: of each group so many are kept.
 * @param {any} facts
 * @param {string} score
 * @param {string} scope
 * @param {number} stop its place on the slider
 * @returns {Group[]}
 */
function groupsOf(facts, score, scope, stop) {
  // bytes of different layers cannot be compared: the facts say how many each keeps
  const own = facts.scores[score][scope];
  return own ? own[stop] : facts.scopes[scope].groups[stop];
}

/**
 * Write the mask at a stop of the slider.
 * @param {any} kernels those of masks.wat
 * @param {{keys: number, mask: number, counts: number}} places of both, in memory, and of
 *   room for 65,536 numbers
 * @param {any} facts
 * @param {{score: string, scope: string, stop: number}} controls
 * @param {Layer[]} layers
 */
export function writeMask(kernels, places, facts, { score, scope, stop }, layers) {
  const { keys, mask, counts } = places;
  if (facts.scopes[scope].of)
    return kernels.keep_of_four(keys, sizeOf(layers), facts.scopes[scope].kept[stop], mask);
  const keep = (
    /** @type {number} */ start,
    /** @type {number} */ count,
    /** @type {number} */ kept,
    /** @type {number} */ bits,
  ) => kernels.keep(keys + 4 * start, count, kept, mask + start, counts, bits);
  for (const { layers: numbers, kept, rows } of groupsOf(facts, score, scope, stop)) {
    const own = numbers.map((number) => layers[number]);
    // layers of one group are neighbours
    if (!rows) keep(own[0].start, sizeOf(own), kept, 16);
    else
      for (const { start, rows: count, columns } of own)
        for (let row = 0; row < count; row++) keep(start + row * columns, columns, kept, 8);
  }
}
