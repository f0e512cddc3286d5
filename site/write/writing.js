// @ts-check
/** What a network writes, and how well it reads: generators, so that a newer wish can
 * interrupt them at each breath. */
import { reading, ROWS } from "./network.js";
import { chosen } from "./sampling.js";

/** @typedef {import("./network.js").Network} Network */

/**
 * The pieces that follow a prompt, one after the other (`Writer.write`).
 * @param {Network} network
 * @param {number[]} prompt
 * @param {Float32Array} noise `[count, pieces]`
 * @returns {Generator<number | undefined, void>} a piece, or nothing but a breath
 */
export function* writing(network, prompt, noise) {
  const { pieces } = network.shape;
  const count = noise.length / pieces;
  yield* reading(network, prompt);
  let last = (prompt.length - 1) % ROWS;
  for (let step = 0; ;) {
    const logits = network.logits(last, 1);
    const piece = chosen(logits, noise.subarray(step * pieces, (step + 1) * pieces));
    yield piece;
    if (++step === count) return;
    network.read([piece], prompt.length + step - 1);
    last = 0;
  }
}

/**
 * The mean loss of one window, in nats a piece.
 * @param {Network} network
 * @param {number[]} window pieces, and the one that comes after them
 * @returns {Generator<undefined, number>}
 */
export function* windowLoss(network, window) {
  const { pieces } = network.shape;
  let total = 0;
  yield* reading(network, window.slice(0, -1), (place, rows) => {
    const logits = network.logits(0, rows);
    for (let row = 0; row < rows; row++)
      total += surprise(
        logits.subarray(row * pieces, (row + 1) * pieces),
        window[place + row + 1],
      );
  });
  return total / (window.length - 1);
}

/**
 * Minus the logarithm of the probability of a piece.
 * @param {Float32Array} logits
 * @param {number} piece
 */
function surprise(logits, piece) {
  let most = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i] > most) most = logits[i];
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i] - most);
  return most + Math.log(sum) - logits[piece];
}

/**
 * The loss over windows, how much more it is than the dense network's on the same
 * windows, and half of the 95% interval of that for other windows
 * (`TextMemory._loss`).
 * @param {number[]} own a loss for each window
 * @param {number[]} dense
 * @param {{count: number, length: number, characters: number}} windows all of them
 */
export function compared(own, dense, windows) {
  const count = own.length;
  const mean = own.reduce((a, b) => a + b) / count;
  const more = own.map((loss, i) => loss - dense[i]);
  const middle = more.reduce((a, b) => a + b) / count;
  const squares = more.reduce((sum, each) => sum + (each - middle) ** 2, 0);
  const error = Math.sqrt(squares / (count - 1) / count);
  const perCharacter = (windows.count * windows.length) / windows.characters;
  return {
    mean,
    more: middle,
    margin: 1.96 * error,
    pieces: count * windows.length,
    bits: (mean * perCharacter) / Math.LN2,
  };
}
