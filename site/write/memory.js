// @ts-check
/**
 * The network, pruned along a slider: which weights are left, what it writes, its loss,
 * its speed (`utils.explorer.text_memory`). Knows nothing of the page.
 */
import { facts as readFacts, file } from "./load.js";
import { layersOf, sizeOf, writeKeys, writeMask } from "./masks.js";
import { bytesNeeded, Kernels, Network } from "./network.js";
import { Vocabulary } from "./pieces.js";
import { noise } from "./sampling.js";
import { partsOf } from "./state.js";
import { widened } from "./weights.js";
import { compared, windowLoss, writing } from "./writing.js";

/** @typedef {import("./state.js").Controls} Controls */

export class Memory {
  /**
   * Fetch what every setting needs.
   * @param {string} folder where the page's files lie
   */
  static async load(folder) {
    const facts = await readFacts(folder);
    const names = ["kernels.wasm", "masks.wasm", "weights.bin", "windows.bin"];
    const [kernel, masks, weights, windows] = await Promise.all(
      names.map((name) => file(folder, facts.files, name)),
    );
    const kernels = await Kernels.load([kernel, masks], bytesNeeded(facts, 3));
    return new Memory(folder, facts, kernels, weights, windows);
  }

  /**
   * @param {string} folder
   * @param {any} facts
   * @param {Kernels} kernels
   * @param {ArrayBuffer} weights
   * @param {ArrayBuffer} windows
   */
  constructor(folder, facts, kernels, weights, windows) {
    this.folder = folder;
    this.facts = facts;
    this.words = new Vocabulary(facts.pieces, facts.word);
    this.layers = layersOf(facts.prunable, facts.tensors);
    this.kernels = kernels;
    const count = weights.byteLength / 2;
    this.weights = widened(
      kernels.view(kernels.take(count), count),
      weights,
      facts.tensors,
    );
    const size = sizeOf(this.layers);
    this.places = {
      keys: kernels.take(size),
      mask: kernels.take(size / 4),
      counts: kernels.take(1 << 16),
    };
    this.score = ""; // whose keys are there
    this.dense = new Network(kernels, facts, this.weights);
    this.pruned = new Network(kernels, facts, this.weights);
    const length = facts.windows.length + 1;
    this.windows = Array.from({ length: facts.windows.count }, (_, window) =>
      Array.from(new Uint16Array(windows).subarray(window * length, (window + 1) * length)),
    );
    this.applied = this.#pruning({ sparsity: 0, off: [] });
    /** @type {Map<string, ArrayBuffer>} */
    this.read = new Map();
    /** @type {Map<string, number[]>} a loss for each window, by what the weights are */
    this.losses = new Map();
    /** @type {Map<string, {dense: number, pruned: number, ratio: number[]}>} pieces a
     * second; how many times as fast, round by round: quartiles */
    this.rates = new Map();
    /** @type {{of: string, pieces: number[]}} what the dense network wrote last */
    this.written = { of: "", pieces: [] };
    /** @type {{draw: number, noise: Float32Array} | null} */
    this.drawn = null;
  }

  /**
   * What the weights depend on.
   * @param {{sparsity: number, score?: string, scope?: string, off: string[]}} controls
   */
  #pruning({ sparsity, score, scope, off }) {
    return JSON.stringify(sparsity ? [sparsity, score, scope, off] : [0, off]);
  }

  /**
   * The file that the score of these controls needs and that is not here yet.
   * @param {Controls} controls
   * @returns {string | null}
   */
  lacks({ score, sparsity }) {
    const name = this.facts.scores[score].reads;
    return name && sparsity && !this.read.has(name) ? name : null;
  }

  /**
   * Fetch it.
   * @param {Controls} controls
   */
  async prepare(controls) {
    const name = this.lacks(controls);
    if (name) this.read.set(name, await file(this.folder, this.facts.files, name));
  }

  /**
   * The mask of these controls, of all layers one after the other, good until the next
   * one; null for the dense network. `prepare` comes first.
   * @param {Controls} controls
   * @returns {Uint8Array | null}
   */
  mask({ score, scope, sparsity }) {
    if (!sparsity) return null;
    const { layers, facts, kernels, places } = this;
    const { buffer } = kernels.floats;
    if (this.score !== score) {
      const keys = new Uint32Array(buffer, places.keys, sizeOf(layers));
      const read = this.read.get(facts.scores[score].reads);
      writeKeys(keys, score, layers, this.weights, read);
      this.score = score;
    }
    const stop = facts.scopes[scope].stops.indexOf(sparsity);
    writeMask(kernels.do, places, facts, { score, scope, stop }, layers);
    return new Uint8Array(buffer, places.mask, sizeOf(layers));
  }

  /**
   * Prune the network.
   * @param {Controls} controls
   */
  apply(controls) {
    const of = this.#pruning(controls);
    if (of === this.applied) return;
    const mask = this.mask(controls);
    const place = mask && this.places.mask;
    this.pruned.set(this.layers, place, partsOf(this.facts, controls.off));
    this.applied = of;
  }

  /** @param {number} draw */
  noise(draw) {
    const { count, temperature, network } = this.facts;
    if (this.drawn?.draw !== draw)
      this.drawn = { draw, noise: noise(count, network.pieces, temperature, draw) };
    return this.drawn.noise;
  }

  /**
   * All that is to be known of these controls, bit by bit: each time a part of the
   * state, or nothing but a breath. `{settled: true}`: what comes next takes longer.
   * @param {Controls} controls
   * @returns {Generator<Record<string, any> | undefined, void>}
   */
  *look(controls) {
    const { count, network } = this.facts;
    const room = network.context + 1 - count;
    const { prompt, pieces, remark } = this.words.read(controls.prompt, room);
    const added = this.noise(controls.draw);
    yield { controls, prompt, remark };
    const of = JSON.stringify([prompt, controls.draw]);
    if (this.written.of !== of) {
      const dense = [];
      for (const piece of writing(this.dense, pieces, added))
        if (piece !== undefined) yield { dense: dense.push(piece) && dense };
        else yield;
      this.written = { of, pieces: dense };
    }
    yield { dense: this.written.pieces };
    this.apply(controls);
    yield;
    const pruned = [];
    for (const piece of writing(this.pruned, pieces, added))
      if (piece !== undefined) yield { pruned: pruned.push(piece) && pruned };
      else yield;
    yield { ...this.counted(controls), settled: true };
    yield* this.evaluated(controls);
    yield* this.timed(controls);
    yield { finished: true };
  }

  /**
   * Weights that are left, of all and in each part; bytes. Of what was applied last.
   * @param {Controls} controls
   */
  counted({ sparsity }) {
    const mask = sparsity
      ? new Uint8Array(this.kernels.floats.buffer, this.places.mask, sizeOf(this.layers))
      : null;
    const { network, tensors } = this.facts;
    const { heads, head_width: inside, width, context, blocks } = network;
    const { parts } = this.pruned;
    const left = Array.from({ length: blocks }, () => new Float64Array(heads + 1));
    const sizes = [4 * inside * width, 2 * network.neurons * width]; // a head's, an MLP's
    for (const { name, start, rows, columns } of this.layers) {
      const [, block, part, layer] = name.split(".");
      const of = left[Number(block)];
      for (let row = 0, i = start; row < rows; row++)
        for (let column = 0; column < columns; column += inside, i += inside) {
          const at = layer === "out" ? column / inside : Math.floor(row / inside);
          const own = part === "mlp" ? heads : at;
          if (!mask) of[own] += inside;
          else for (let j = i; j < i + inside; j++) of[own] += mask[j];
        }
    }
    const share = left.map((of) => Array.from(of, (n, p) => n / sizes[p < heads ? 0 : 1]));
    let kept = 0;
    let present = 0;
    parts.forEach((part, block) => {
      const own = [...part.heads, ...(part.mlp ? [heads] : [])];
      for (const p of own) {
        kept += left[block][p];
        present += sizes[p < heads ? 0 : 1];
      }
    });
    const weights = blocks * (heads * sizes[0] + sizes[1]);
    const all = Object.values(tensors).reduce(
      (sum, /** @type {number[]} */ shape) => sum + shape.reduce((a, b) => a * b),
      0,
    );
    const saved = 4 * (all - (weights - present));
    const packed = mask ? saved - 4 * (present - kept) + Math.ceil(present / 8) : saved;
    const cached = parts.reduce((sum, part) => sum + part.heads.length, 0) * inside;
    return {
      kept,
      weights,
      present,
      saved,
      packed,
      share,
      whole: 4 * all,
      cache: 8 * cached * context,
    };
  }

  /**
   * Evaluate both networks, a window at a time; the estimate so far after each.
   * @param {Controls} controls
   */
  *evaluated(controls) {
    const own = this.#lossesOf(this.#pruning(controls));
    const dense = this.#lossesOf(this.#pruning({ sparsity: 0, off: [] }));
    this.apply(controls);
    for (let number = 0; number < this.windows.length; number++) {
      const window = this.windows[number];
      if (dense.length === number) dense.push(yield* windowLoss(this.dense, window));
      if (own.length === number) own.push(yield* windowLoss(this.pruned, window));
      if (number && (number === this.windows.length - 1 || own.length === number + 1))
        yield this.lossOf(controls);
    }
  }

  /** @param {string} pruning */
  #lossesOf(pruning) {
    const known = this.losses.get(pruning) ?? [];
    this.losses.set(pruning, known);
    return known;
  }

  /**
   * The loss of these controls and of the dense network, and the loss at each stop of
   * the slider that was evaluated in full.
   * @param {Controls} controls
   */
  lossOf(controls) {
    const { windows, scopes } = this.facts;
    const own = this.#lossesOf(this.#pruning(controls));
    const all = this.#lossesOf(this.#pruning({ sparsity: 0, off: [] }));
    const dense = all.slice(0, own.length);
    /** @type {[number, number][]} */
    const curve = [];
    for (const sparsity of scopes[controls.scope].stops) {
      const known = this.#lossesOf(this.#pruning({ ...controls, sparsity }));
      if (known.length === windows.count)
        curve.push([sparsity, compared(known, all, windows).mean]);
    }
    return {
      loss: compared(own, dense, windows),
      before: compared(dense, dense, windows),
      evaluated: own.length,
      curve,
    };
  }

  /**
   * Time both networks in turn, a round at a time: pieces a second.
   * @param {Controls} controls
   */
  *timed(controls) {
    const { count, rounds, prompt } = this.facts.speed;
    const key = this.#pruning(controls);
    const pieces = this.words.encode(prompt);
    const added = this.noise(controls.draw).subarray(0, count * this.facts.network.pieces);
    /** @type {Record<"dense" | "pruned", number[]>} */
    const seconds = { dense: [], pruned: [] };
    if (!this.rates.has(key)) {
      for (let round = 0; round < rounds; round++)
        for (const name of /** @type {const} */ (["dense", "pruned"])) {
          seconds[name].push(timeOf(this[name], pieces, added));
          yield;
        }
      const ratios = seconds.dense.map((each, round) => each / seconds.pruned[round]);
      this.rates.set(key, {
        dense: 1 / quantile(seconds.dense, 0.5),
        pruned: 1 / quantile(seconds.pruned, 0.5),
        ratio: [0.25, 0.5, 0.75].map((share) => quantile(ratios, share)),
      });
    }
    yield { rates: this.rates.get(key) };
  }
}

/**
 * Seconds for a piece; the reading of the prompt is not counted.
 * @param {Network} network
 * @param {number[]} prompt
 * @param {Float32Array} added
 */
function timeOf(network, prompt, added) {
  const pieces = writing(network, prompt, added);
  for (let step = pieces.next(); step.value === undefined;) step = pieces.next();
  const started = performance.now();
  let count = 0;
  while (!pieces.next().done) count++;
  return (performance.now() - started) / 1000 / count;
}

/**
 * The number below which this share of the values lies, as NumPy's `quantile`.
 * @param {number[]} values
 * @param {number} share
 */
function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const next = sorted[Math.min(low + 1, sorted.length - 1)];
  return sorted[low] + (place - low) * (next - sorted[low]);
}
