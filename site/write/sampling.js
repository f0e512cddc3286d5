// @ts-check
/** Noise, as `utils.generation.noise` draws it, and the piece that wins with it. */

import { Random } from "./random.js";

/**
 * What is added to the logits, `[count, pieces]`: Gumbel noise times the temperature.
 * @param {number} count
 * @param {number} pieces
 * @param {number} temperature
 * @param {number} seed
 */
export function noise(count, pieces, temperature, seed) {
  const random = new Random(seed);
  const added = new Float32Array(count * pieces);
  for (let i = 0; i < added.length; i++) {
    const uniform = Math.max(random.double(), 1e-300);
    added[i] = -Math.log(-Math.log(uniform)) * temperature;
  }
  return added;
}

/**
 * The piece whose logit plus noise is largest; of equal ones the first.
 * @param {Float32Array} logits `[pieces]`
 * @param {Float32Array} added `[pieces]`
 */
export function chosen(logits, added) {
  let best = 0;
  let most = -Infinity;
  for (let i = 0; i < logits.length; i++) {
    const value = Math.fround(logits[i] + added[i]);
    if (value > most) {
      most = value;
      best = i;
    }
  }
  return best;
}
