/**
 * A network of fully connected layers with ReLU between them, in the kernels' memory:
 * its weights as they are, and without their zeros.
 *
 * @typedef {import("./kernels.js").Kernels} Kernels
 * @typedef {import("./units.js").Layer} Layer
 */

export const BLOCK = 32; // pictures side by side, as `sparse_block` takes them
export const NO_ANSWER = 255; // where an output is NaN: never a right one

/**
 * Pixels as the network was trained on them: utils.data.normalise, to the bit.
 * @param {number} mean
 * @param {number} std
 * @returns {Float32Array} what each of the 256 greys becomes
 */
export function normalised(mean, std) {
  const f = Math.fround;
  return Float32Array.from({ length: 256 }, (_, grey) =>
    f(f(f(grey / 255) - f(mean)) / f(std)),
  );
}

/** Pictures in the kernels' memory, 32 side by side: `[blocks, pixels, 32]`. */
export class Pictures {
  /**
   * @param {Kernels} kernels
   * @param {number} most  so many there can be
   * @param {number} size  pixels of a picture
   * @param {Float32Array} greys  from `normalised`
   */
  constructor(kernels, most, size, greys) {
    this.kernels = kernels;
    this.size = size;
    this.greys = greys;
    this.count = 0;
    this.at = kernels.reserve(Math.ceil(most / BLOCK) * BLOCK * size);
  }

  /**
   * More pictures, behind those that are there.
   * @param {Uint8Array} pixels  `[n, size]`
   */
  add(pixels) {
    const count = pixels.length / this.size;
    const end = Math.ceil((this.count + count) / BLOCK) * BLOCK * this.size;
    const floats = this.kernels.floats(this.at, end);
    for (let n = 0; n < count; n++) {
      const place = this.count + n;
      const start = Math.floor(place / BLOCK) * BLOCK * this.size + (place % BLOCK);
      for (let i = 0; i < this.size; i++)
        floats[start + i * BLOCK] = this.greys[pixels[n * this.size + i]];
    }
    this.count += count;
  }
}

export class Network {
  /**
   * Room for a network of these layers or smaller ones.
   * @param {Kernels} kernels
   * @param {Layer[]} layers
   */
  constructor(kernels, layers) {
    this.kernels = kernels;
    this.capacity = layers.map(({ inputs, outputs }) => ({ inputs, outputs }));
    const numbers = layers.map(layer => layer.outputs * (layer.inputs + 1));
    this.at = kernels.reserve(numbers.reduce((a, b) => a + b));
    /** One layer's addresses and sizes. */
    this.layers = layers.map(layer => ({
      inputs: 0,
      outputs: 0,
      weight: 0,
      bias: 0,
      kept: 0,
      values: kernels.reserve(layer.outputs * layer.inputs),
      columns: kernels.reserve(layer.outputs * layer.inputs),
      rows: kernels.reserve(layer.outputs + 1),
      one: kernels.reserve(layer.outputs), // what it puts out for one picture
      block: kernels.reserve(layer.outputs * BLOCK), // and for 32
    }));
    this.input = kernels.reserve(layers[0].inputs);
    this.fill(layers);
  }

  /** Numbers of the network: weights and biases. */
  get size() {
    return this.layers.reduce((sum, each) => sum + each.outputs * (each.inputs + 1), 0);
  }

  /**
   * Other weights, and where they are fewer, another size.
   * @param {Layer[]} layers
   */
  fill(layers) {
    let at = this.at;
    this.layers.forEach((place, number) => {
      const { inputs, outputs, weight, bias } = layers[number];
      Object.assign(place, { inputs, outputs, weight: at, bias: at + 4 * weight.length });
      this.kernels.floats(place.weight, weight.length).set(weight);
      this.kernels.floats(place.bias, outputs).set(bias);
      at = place.bias + 4 * outputs;
    });
    this.compress();
  }

  /** Find the zeros of the weights as they are now: compressed sparse rows. */
  compress() {
    for (const place of this.layers) {
      const count = place.inputs * place.outputs;
      const weight = this.kernels.floats(place.weight, count);
      const values = this.kernels.floats(place.values, count);
      const columns = this.kernels.integers(place.columns, count);
      const rows = this.kernels.integers(place.rows, place.outputs + 1);
      let kept = 0;
      for (let unit = 0, i = 0; unit < place.outputs; unit++) {
        rows[unit] = kept;
        for (let column = 0; column < place.inputs; column++, i++)
          if (weight[i] !== 0) {
            values[kept] = weight[i];
            columns[kept++] = column;
          }
      }
      rows[place.outputs] = place.kept = kept;
    }
  }

  /** The layers as they are now, copied out of the kernels' memory. */
  copied() {
    return this.layers.map(({ inputs, outputs, weight, bias }) => ({
      inputs,
      outputs,
      weight: this.kernels.floats(weight, inputs * outputs).slice(),
      bias: this.kernels.floats(bias, outputs).slice(),
    }));
  }

  /**
   * Multiply one input by all weights, zeros or not.
   * @param {number} [input]  its address
   */
  runDense(input = this.input) {
    const { run } = this.kernels;
    const last = this.layers.length - 1;
    this.layers.forEach((each, number) => {
      const { weight, bias, one, inputs, outputs } = each;
      run.dense(input, weight, bias, one, 1, inputs, outputs, number < last ? 1 : 0);
      input = one;
    });
  }

  /**
   * Multiply one input by the weights that are not zero.
   * @param {number} [input]  its address
   */
  runSparse(input = this.input) {
    const { run } = this.kernels;
    const last = this.layers.length - 1;
    this.layers.forEach((each, number) => {
      const { values, columns, rows, bias, one, outputs } = each;
      run.sparse(input, values, columns, rows, bias, one, outputs, number < last ? 1 : 0);
      input = one;
    });
  }

  /**
   * What every layer puts out for one picture; the last are the logits.
   * @param {Float32Array} picture  normalised
   */
  outputs(picture) {
    this.kernels.floats(this.input, picture.length).set(picture);
    this.runDense();
    return this.layers.map(each => this.kernels.floats(each.one, each.outputs).slice());
  }

  /**
   * The logits of these pictures, `[n, classes]`.
   * @param {Pictures} pictures
   * @param {number} from  a multiple of 32
   * @param {number} to
   */
  logits(pictures, from, to) {
    const { outputs: classes } = this.layers[this.layers.length - 1];
    const found = new Float32Array((to - from) * classes);
    for (let start = from; start < to; start += BLOCK) {
      const block = this.#runBlock(pictures.at + 4 * start * pictures.size);
      for (let n = start; n < Math.min(to, start + BLOCK); n++)
        for (let c = 0; c < classes; c++)
          found[(n - from) * classes + c] = block[c * BLOCK + n - start];
    }
    return found;
  }

  /**
   * The class that it gives each of these pictures.
   * @param {Pictures} pictures
   * @param {number} from  a multiple of 32
   * @param {number} to
   */
  predict(pictures, from, to) {
    const logits = this.logits(pictures, from, to);
    return answers(logits, logits.length / (to - from));
  }

  /** @param {number} input */
  #runBlock(input) {
    const { run } = this.kernels;
    const last = this.layers.length - 1;
    this.layers.forEach((each, number) => {
      const { values, columns, rows, bias, block, outputs } = each;
      const relu = number < last ? 1 : 0;
      run.sparse_block(input, values, columns, rows, bias, block, outputs, relu);
      input = block;
    });
    return this.kernels.floats(input, this.layers[last].outputs * BLOCK);
  }
}

/**
 * The place of the largest of each row; NO_ANSWER where one is NaN.
 * @param {Float32Array} logits  `[n, classes]`
 * @param {number} classes
 */
export function answers(logits, classes) {
  const found = new Uint8Array(logits.length / classes);
  for (let n = 0; n < found.length; n++) {
    const row = logits.subarray(n * classes, (n + 1) * classes);
    found[n] = row.some(Number.isNaN) ? NO_ANSWER : row.indexOf(Math.max(...row));
  }
  return found;
}
