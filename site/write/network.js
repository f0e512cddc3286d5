// @ts-check
/**
 * The transformer: each piece read once, its keys and values kept
 * (`utils.generation.Writer`). The arithmetic is in kernels.wat; here is what is done
 * with what.
 *
 * What is pruned is zero in tensors of the old size. Heads, attentions and MLPs that are
 * switched off are removed: their rows and columns are not there, and nothing is
 * computed for them.
 */

import { Trouble } from "./load.js";

/**
 * @typedef {import("./masks.js").Layer} Layer
 * @typedef {{heads: number[], mlp: boolean}} Parts what is there of a block
 * @typedef {{query: number, key: number, value: number, out: number, up: number,
 *   down: number, norm1: number, norm2: number, keys: number, values: number}} Places
 */

export const ROWS = 32; // pieces that are read at once
const FLOAT = 4;

/** The kernels, and memory that is handed out piece by piece and never taken back. */
export class Kernels {
  /**
   * @param {BufferSource[]} codes kernels.wasm and masks.wasm
   * @param {number} bytes of memory
   * @returns {Promise<Kernels>}
   */
  static async load(codes, bytes) {
    if (!codes.every((code) => WebAssembly.validate(code)))
      throw new Trouble("This browser's WebAssembly has no SIMD");
    const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) });
    const all = codes.map((code) => WebAssembly.instantiate(code, { page: { memory } }));
    const found = await Promise.all(all);
    return new Kernels(
      Object.assign({}, ...found.map((each) => each.instance.exports)),
      memory,
    );
  }

  /**
   * @param {any} functions by name
   * @param {WebAssembly.Memory} memory
   */
  constructor(functions, memory) {
    this.do = functions;
    this.used = 0;
    this.floats = new Float32Array(memory.buffer);
  }

  /**
   * Room for so many floats.
   * @param {number} count
   * @returns {number} its place, in bytes
   */
  take(count) {
    const place = this.used;
    this.used += Math.ceil((count * FLOAT) / 16) * 16;
    if (this.used > this.floats.byteLength) throw new RangeError("the memory is used up");
    return place;
  }

  /**
   * @param {number} place
   * @param {number} count
   */
  view(place, count) {
    return this.floats.subarray(place / FLOAT, place / FLOAT + count);
  }
}

/**
 * How many bytes so many networks need, and one mask with its keys.
 * @param {any} facts
 * @param {number} networks
 */
export function bytesNeeded(facts, networks) {
  const { blocks, context, width, heads, head_width, neurons, pieces } = facts.network;
  const sizes = Object.values(facts.tensors).map((/** @type {number[]} */ shape) =>
    shape.reduce((a, b) => a * b),
  );
  const weights = sizes.reduce((a, b) => a + b);
  const cache = 2 * blocks * context * heads * head_width;
  const scratch = ROWS * (2 * width + 2 * heads * head_width + neurons + pieces) + context;
  return networks * FLOAT * (weights + cache + scratch) + 5 * weights + (1 << 20);
}

export class Network {
  /**
   * @param {Kernels} kernels
   * @param {any} facts
   * @param {Record<string, Float32Array>} weights dense, by parameter name; in the
   *   kernels' memory
   */
  constructor(kernels, facts, weights) {
    this.kernels = kernels;
    this.shape = facts.network;
    this.dense = weights;
    /** @type {Record<string, number>} */
    this.lines = {};
    for (const [name, shape] of Object.entries(facts.tensors))
      this.lines[name] = /** @type {number[]} */ (shape)[1] ?? 1;
    const { blocks, context, width, heads, head_width, neurons, pieces } = this.shape;
    const inside = heads * head_width;
    const take = (/** @type {number} */ count) => kernels.take(count);
    const at = (/** @type {string} */ name) => weights[name].byteOffset;
    this.norm = at("norm.weight");
    this.head = at("embedding.weight"); // the head is tied to it
    this.x = take(ROWS * width);
    this.normal = take(ROWS * width);
    this.query = take(ROWS * inside);
    this.mixed = take(ROWS * inside);
    this.neurons = take(ROWS * neurons);
    this.fit = take(context);
    this.answers = take(ROWS * pieces);
    /** @type {Places[]} */
    this.places = Array.from({ length: blocks }, (_, block) => ({
      norm1: at(`blocks.${block}.norm1.weight`),
      norm2: at(`blocks.${block}.norm2.weight`),
      query: take(inside * width),
      key: take(inside * width),
      value: take(inside * width),
      out: take(width * inside),
      up: take(neurons * width),
      down: take(width * neurons),
      keys: take(context * inside),
      values: take(context * inside),
    }));
    /** @type {Parts[]} */
    this.parts = [];
    this.set([], null, allParts(this.shape));
  }

  /**
   * Prune the network, and take parts out of it.
   * @param {Layer[]} layers those that the mask speaks of
   * @param {number | null} mask the place of that of all layers; null: dense
   * @param {Parts[]} parts
   */
  set(layers, mask, parts) {
    this.parts = parts;
    const { width, head_width, neurons } = this.shape;
    const of = Object.fromEntries(layers.map((layer) => [layer.name, layer]));
    parts.forEach(({ heads, mlp }, block) => {
      const places = this.places[block];
      const each = heads.map((head) => [head * head_width, (head + 1) * head_width]);
      const put = (
        /** @type {string} */ name,
        /** @type {number} */ place,
        /** @type {number[][]} */ rows,
        /** @type {number[][]} */ columns,
      ) => this.#put(`blocks.${block}.${name}.weight`, place, rows, columns, of, mask);
      put("attention.query", places.query, each, [[0, width]]);
      put("attention.key", places.key, each, [[0, width]]);
      put("attention.value", places.value, each, [[0, width]]);
      put("attention.out", places.out, [[0, width]], each);
      if (!mlp) return;
      put("mlp.up", places.up, [[0, neurons]], [[0, width]]);
      put("mlp.down", places.down, [[0, width]], [[0, neurons]]);
    });
  }

  /**
   * Some rows and columns of a weight, those that are pruned as zero.
   * @param {string} name
   * @param {number} place
   * @param {number[][]} rows ranges of them
   * @param {number[][]} columns
   * @param {Record<string, Layer>} layers
   * @param {number | null} mask
   */
  #put(name, place, rows, columns, layers, mask) {
    const { floats } = this.kernels;
    const dense = this.dense[name];
    const line = this.lines[name]; // numbers in a row
    const copy = (/** @type {number} */ start, /** @type {number} */ count) => {
      if (mask === null) floats.set(dense.subarray(start, start + count), place / FLOAT);
      else {
        const from = dense.byteOffset + FLOAT * start;
        this.kernels.do.cut(from, mask + layers[name].start + start, place, count);
      }
      place += FLOAT * count;
    };
    for (const [top, bottom] of rows)
      // whole rows lie side by side
      if (columns.length === 1 && columns[0][1] - columns[0][0] === line)
        copy(top * line, (bottom - top) * line);
      else
        for (let row = top; row < bottom; row++)
          for (const [left, right] of columns) copy(row * line + left, right - left);
  }

  /**
   * Read pieces that stand at `place` and after; the cache holds those before, and these
   * afterwards.
   * @param {ArrayLike<number>} pieces at most ROWS
   * @param {number} place
   */
  read(pieces, place) {
    const { kernels, x, normal } = this;
    const { width, neurons, head_width, epsilon } = this.shape;
    const { normalise, multiply, rectify, attend } = kernels.do;
    const rows = pieces.length;
    this.#enter(pieces, place);
    this.places.forEach((of, block) => {
      const { heads, mlp } = this.parts[block];
      if (heads.length) {
        const inside = heads.length * head_width;
        const new_ = place * inside * FLOAT; // where these pieces begin in the cache
        normalise(x, of.norm1, normal, rows, width, epsilon);
        multiply(normal, of.query, this.query, rows, inside, width, 0);
        multiply(normal, of.key, of.keys + new_, rows, inside, width, 0);
        multiply(normal, of.value, of.values + new_, rows, inside, width, 0);
        attend(
          this.query,
          of.keys,
          of.values,
          this.mixed,
          this.fit,
          rows,
          place,
          heads.length,
        );
        multiply(this.mixed, of.out, x, rows, width, inside, 1);
      }
      if (mlp) {
        normalise(x, of.norm2, normal, rows, width, epsilon);
        multiply(normal, of.up, this.neurons, rows, neurons, width, 0);
        rectify(this.neurons, rows * neurons);
        multiply(this.neurons, of.down, x, rows, width, neurons, 1);
      }
    });
    normalise(x, this.norm, normal, rows, width, epsilon);
  }

  /**
   * The stream where it begins: what a piece is, plus where it stands.
   * @param {ArrayLike<number>} pieces
   * @param {number} place
   */
  #enter(pieces, place) {
    const { width } = this.shape;
    const { "embedding.weight": embedding, "position.weight": position } = this.dense;
    const stream = this.kernels.view(this.x, pieces.length * width);
    for (let row = 0, i = 0; row < pieces.length; row++)
      for (let column = 0; column < width; column++, i++)
        stream[i] =
          embedding[pieces[row] * width + column] +
          position[(place + row) * width + column];
  }

  /**
   * What it says at the pieces it just read, from row `first` on: `[rows, pieces]`.
   * @param {number} first
   * @param {number} rows
   * @returns {Float32Array} good until the next call
   */
  logits(first, rows) {
    const { width, pieces } = this.shape;
    const from = this.normal + first * width * FLOAT;
    this.kernels.do.multiply(from, this.head, this.answers, rows, pieces, width, 0);
    return this.kernels.view(this.answers, rows * pieces);
  }
}

/**
 * Everything is there.
 * @param {any} shape
 * @returns {Parts[]}
 */
export function allParts({ blocks, heads }) {
  const every = Array.from({ length: heads }, (_, head) => head);
  return Array.from({ length: blocks }, () => ({ heads: every, mlp: true }));
}

/**
 * Read a text of any length that fits, ROWS pieces at a time; a breath after each.
 * @param {Network} network
 * @param {number[]} text
 * @param {(place: number, rows: number) => void} [then] what is done after each
 */
export function* reading(network, text, then) {
  for (let place = 0; place < text.length; place += ROWS) {
    const pieces = text.slice(place, place + ROWS);
    network.read(pieces, place);
    then?.(place, pieces.length);
    yield;
  }
}
