/**
 * Fine-tuning in the page: SGD with momentum on training pictures, the loss that the
 * network was trained with (cross-entropy), and pruned weights held at zero.
 *
 * @typedef {import("./kernels.js").Kernels} Kernels
 * @typedef {import("./network.js").Network} Network
 * @typedef {object} Recipe
 * @property {number} steps
 * @property {number} batch  pictures of a step
 * @property {number} rate  learning rate of the first step; it falls to 0 in equal steps
 * @property {number} momentum
 */

import { Random } from "./random.js";
import { softmax } from "./words.js";

/** Made once for a network: memory that was reserved is never given back. */
const rooms = new WeakMap();

export class Tuning {
  /**
   * @param {Network} network  trained in place; which of its weights are 0 is kept
   * @param {Float32Array} images  `[n, inputs]`, normalised
   * @param {Uint8Array} labels  `[n]`
   * @param {Recipe} recipe
   * @param {number} seed  of the pictures' order
   * @param {boolean} hold  whether weights that are 0 stay it
   */
  constructor(network, images, labels, recipe, seed, hold) {
    this.network = network;
    this.images = images;
    this.labels = labels;
    this.recipe = recipe;
    this.random = new Random(seed);
    this.done = 0;
    /** @type {number[]} pictures still to come in this pass */
    this.queue = [];
    this.room = rooms.get(network) ?? room(network, recipe.batch);
    rooms.set(network, this.room);
    this.#begin(hold);
  }

  /** @param {boolean} hold */
  #begin(hold) {
    const { kernels, size, at, layers } = this.network;
    for (const start of [this.room.gradient, this.room.speed])
      kernels.floats(start, size).fill(0);
    const mask = kernels.floats(this.room.mask, size).fill(1);
    if (!hold) return;
    for (const { weight, inputs, outputs } of layers) {
      const numbers = kernels.floats(weight, inputs * outputs);
      const first = (weight - at) / 4;
      for (let i = 0; i < numbers.length; i++) mask[first + i] = numbers[i] === 0 ? 0 : 1;
    }
  }

  /** One step; returns the loss before it. */
  step() {
    const { batch, rate, momentum, steps } = this.recipe;
    const { kernels, size, at } = this.network;
    const chosen = this.#batch(batch);
    const inputs = this.network.layers[0].inputs;
    const images = kernels.floats(this.room.images, batch * inputs);
    chosen.forEach((place, n) =>
      images.set(this.images.subarray(place * inputs, (place + 1) * inputs), n * inputs),
    );
    this.#forward(batch);
    const loss = this.#backward(chosen);
    const now = rate * (1 - this.done / steps);
    kernels.run.step(at, this.room.gradient, this.room.speed, this.room.mask, size, now, momentum);
    this.done++;
    return loss;
  }

  /** @param {number} count */
  #batch(count) {
    if (this.queue.length < count) this.queue = [...this.random.order(this.labels.length)];
    return this.queue.splice(0, count);
  }

  /** @param {number} n */
  #forward(n) {
    const { kernels, layers } = this.network;
    let input = this.room.images;
    layers.forEach(({ weight, bias, inputs, outputs }, number) => {
      const to = this.room.outputs[number];
      const relu = number < layers.length - 1 ? 1 : 0;
      kernels.run.dense(input, weight, bias, to, n, inputs, outputs, relu);
      input = to;
    });
  }

  /**
   * The gradients, from the last layer to the first.
   * @param {number[]} chosen
   */
  #backward(chosen) {
    const { kernels, layers, at } = this.network;
    const n = chosen.length;
    const last = layers.length - 1;
    const slopes = this.room.slopes;
    const loss = this.#slopesOfLoss(chosen);
    for (let number = last; number >= 0; number--) {
      const { weight, bias, inputs, outputs } = layers[number];
      const slope = kernels.floats(slopes[number], n * outputs);
      const before = number ? this.room.outputs[number - 1] : this.room.images;
      const toWeight = this.room.gradient + weight - at;
      // [outputs, inputs] += slopes[n, outputs].T @ before[n, inputs]
      kernels.run.add_product(toWeight, slopes[number], before, outputs, n, inputs, 4, 4 * outputs);
      const toBias = kernels.floats(this.room.gradient + bias - at, outputs);
      for (let i = 0; i < slope.length; i++) toBias[i % outputs] += slope[i];
      if (!number) break;
      // [n, inputs] = slopes[n, outputs] @ weight[outputs, inputs], 0 where ReLU put out 0
      const below = kernels.floats(slopes[number - 1], n * inputs).fill(0);
      kernels.run.add_product(slopes[number - 1], slopes[number], weight, n, outputs, inputs, 4 * outputs, 4);
      const active = kernels.floats(before, n * inputs);
      for (let i = 0; i < below.length; i++) if (active[i] <= 0) below[i] = 0;
    }
    return loss;
  }

  /**
   * The mean cross-entropy, and how it changes with each logit: (softmax - label) / n.
   * @param {number[]} chosen
   */
  #slopesOfLoss(chosen) {
    const { kernels, layers } = this.network;
    const n = chosen.length;
    const last = layers.length - 1;
    const classes = layers[last].outputs;
    const logits = kernels.floats(this.room.outputs[last], n * classes);
    const slopes = kernels.floats(this.room.slopes[last], n * classes);
    let loss = 0;
    for (let i = 0; i < n; i++) {
      const chances = softmax(logits.subarray(i * classes, (i + 1) * classes));
      const label = this.labels[chosen[i]];
      loss -= Math.log(chances[label]) / n;
      chances.forEach((chance, c) => {
        slopes[i * classes + c] = (chance - (c === label ? 1 : 0)) / n;
      });
    }
    return loss;
  }
}

/**
 * Addresses for what training needs beside the network.
 * @param {Network} network  at its largest
 * @param {number} batch
 */
function room({ kernels, layers, capacity }, batch) {
  const each = () => layers.map((_, number) => kernels.reserve(batch * capacity[number].outputs));
  const size = capacity.reduce((sum, layer) => sum + layer.outputs * (layer.inputs + 1), 0);
  return {
    images: kernels.reserve(batch * capacity[0].inputs),
    outputs: each(),
    slopes: each(),
    gradient: kernels.reserve(size),
    speed: kernels.reserve(size),
    mask: kernels.reserve(size),
  };
}
