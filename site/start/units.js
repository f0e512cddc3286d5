/**
 * Whole neurons: their scores, which of them stay, and the smaller network, as
 * utils/surgery.py makes it. A neuron is a row of a layer's weight; the last layer's
 * are the answers, and stay.
 */

import { round } from "./masks.js";

/**
 * @typedef {object} Layer
 * @property {number} inputs
 * @property {number} outputs
 * @property {Float32Array} weight  `[outputs, inputs]`
 * @property {Float32Array} bias  `[outputs]`
 */

/**
 * Sum of |w| over each unit's incoming weights.
 * @param {Layer} layer
 */
export function l1(layer) {
  const sums = new Float64Array(layer.outputs);
  for (let unit = 0; unit < layer.outputs; unit++)
    for (let i = 0; i < layer.inputs; i++)
      sums[unit] += Math.abs(layer.weight[unit * layer.inputs + i]);
  return sums.map(Math.fround);
}

/**
 * Which units of each hidden layer stay: 1, or 0. At least one of each layer does.
 * @param {Float64Array[]} scores  of the hidden layers
 * @param {number} ratio  fraction to remove
 * @param {string} scope  "layerwise", the same fraction of each layer; "global", one
 *   ranking of all units, each score divided by its layer's mean
 */
export function unitMasks(scores, ratio, scope) {
  const gone =
    scope === "global"
      ? goneOfEach(scores, ratio)
      : scores.map(each => round(ratio * each.length));
  return scores.map((each, layer) => {
    const kept = Math.max(1, each.length - gone[layer]);
    const mask = new Uint8Array(each.length);
    const order = Array.from(each, (_, unit) => unit).sort((a, b) => each[b] - each[a]);
    for (const unit of order.slice(0, kept)) mask[unit] = 1;
    return mask;
  });
}

/**
 * How many of each layer are among the lowest of all.
 * @param {Float64Array[]} scores
 * @param {number} ratio
 */
function goneOfEach(scores, ratio) {
  const all = scores.flatMap((each, layer) => {
    const mean = each.reduce((a, b) => a + Math.abs(b), 0) / each.length || 1;
    return Array.from(each, score => ({ layer, relative: score / mean }));
  });
  all.sort((a, b) => a.relative - b.relative);
  const gone = scores.map(() => 0);
  for (const { layer } of all.slice(0, round(ratio * all.length))) gone[layer]++;
  return gone;
}

/**
 * The smaller network: without the rows of the units that leave, and without the columns
 * that they went to.
 * @param {Layer[]} layers
 * @param {Uint8Array[]} masks  of the hidden layers
 * @returns {Layer[]}
 */
export function removed(layers, masks) {
  return layers.map((layer, number) => {
    const rows = places(masks[number], layer.outputs);
    const columns = places(masks[number - 1], layer.inputs);
    const weight = new Float32Array(rows.length * columns.length);
    let at = 0;
    for (const row of rows)
      for (const column of columns) weight[at++] = layer.weight[row * layer.inputs + column];
    const bias = Float32Array.from(rows, row => layer.bias[row]);
    return { inputs: columns.length, outputs: rows.length, weight, bias };
  });
}

/**
 * The same as a mask of all weights: which of them are still there.
 * @param {Layer[]} layers
 * @param {Uint8Array[]} masks
 */
export function asWeightMask(layers, masks) {
  const parts = layers.map((layer, number) => {
    const part = new Uint8Array(layer.outputs * layer.inputs);
    const columns = places(masks[number - 1], layer.inputs);
    for (const row of places(masks[number], layer.outputs))
      for (const column of columns) part[row * layer.inputs + column] = 1;
    return part;
  });
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let start = 0;
  for (const part of parts) {
    whole.set(part, start);
    start += part.length;
  }
  return whole;
}

/**
 * Where a mask keeps; everywhere without a mask.
 * @param {Uint8Array | undefined} mask
 * @param {number} size
 */
export function places(mask, size) {
  const all = Array.from({ length: size }, (_, i) => i);
  return mask ? all.filter(i => mask[i]) : all;
}
