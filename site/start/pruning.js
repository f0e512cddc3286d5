/**
 * The trained network and its pruned versions: what a setting means in numbers.
 *
 * @typedef {import("./units.js").Layer} Layer
 * @typedef {import("./state.js").Setting} Setting
 * @typedef {object} Pruned
 * @property {Layer[]} layers  what is left: with zeros, or smaller
 * @property {Uint8Array} mask  of all weights, 1 where one is left
 * @property {Uint8Array[]} units  of the hidden layers, 1 where a unit is left
 */

import { fromPlanes } from "./load.js";
import { weightMask } from "./masks.js";
import { Random } from "./random.js";
import { asWeightMask, l1, removed, unitMasks } from "./units.js";

export class Trained {
  /**
   * @param {any} facts
   * @param {Uint8Array} planes  all weights, then all biases
   */
  constructor(facts, planes) {
    this.facts = facts;
    const numbers = fromPlanes(planes);
    /** @type {{ inputs: number, outputs: number }[]} */
    const layers = facts.layers;
    /** @type {number[]} weights of each layer */
    this.sizes = layers.map(layer => layer.outputs * layer.inputs);
    const total = this.sizes.reduce((a, b) => a + b);
    this.weights = numbers.subarray(0, total);
    let weight = 0;
    let bias = total;
    /** @type {Layer[]} */
    this.layers = layers.map(({ inputs, outputs }) => ({
      inputs,
      outputs,
      weight: numbers.subarray(weight, (weight += inputs * outputs)),
      bias: numbers.subarray(bias, (bias += outputs)),
    }));
    /** @type {Map<string, any>} scores by kind and name, each found once */
    this.scores = new Map();
  }

  /**
   * Whether the page has to fetch something before it can prune by this score.
   * @param {Setting} setting
   */
  needsFile({ kind, score }) {
    return kind === "weights" && score === "taylor" && !this.scores.has("weights taylor");
  }

  /**
   * The Taylor score of single weights: a byte each, the number of a step.
   * @param {Uint8Array} steps
   */
  setTaylor(steps) {
    const values = Float32Array.from(this.facts.taylor.steps);
    this.scores.set("weights taylor", Float32Array.from(steps, step => values[step]));
  }

  /**
   * @param {Setting} setting
   * @returns {Pruned}
   */
  prune(setting) {
    return setting.kind === "weights" ? this.#withZeros(setting) : this.#smaller(setting);
  }

  /** @param {Setting} setting */
  #withZeros({ score, scope, sparsity }) {
    const mask = weightMask(this.#weightScores(score), this.sizes, sparsity, scope);
    return { layers: this.masked(mask), mask, units: this.layers.slice(0, -1).map(all) };
  }

  /** @param {Setting} setting */
  #smaller({ score, scope, sparsity }) {
    const units = unitMasks(this.#unitScores(score), sparsity, scope);
    const mask = asWeightMask(this.layers, units);
    return { layers: removed(this.layers, units), mask, units };
  }

  /**
   * The network at its old size, with zeros where the mask is 0. The bits are cleared
   * rather than the numbers chosen: no branch for the processor to guess.
   * @param {Uint8Array} mask
   */
  masked(mask) {
    const bits = new Int32Array(this.weights.buffer, this.weights.byteOffset, mask.length);
    const masked = new Int32Array(mask.length);
    for (let i = 0; i < mask.length; i++) masked[i] = bits[i] & -mask[i];
    let start = 0;
    return this.layers.map((layer, number) => {
      const weight = new Float32Array(masked.buffer, 4 * start, this.sizes[number]);
      start += this.sizes[number];
      return { ...layer, weight };
    });
  }

  /**
   * The same for whole units: those that are gone put out 0.
   * @param {Pruned} pruned
   */
  zeroed({ mask, units }) {
    return this.masked(mask).map((layer, number) => ({
      ...layer,
      bias: layer.bias.map((bias, unit) => (units[number]?.[unit] === 0 ? 0 : bias)),
    }));
  }

  /** @param {string} score */
  #weightScores(score) {
    return this.#once(`weights ${score}`, () => {
      if (score === "magnitude") return this.weights.map(Math.abs);
      if (score === "random") return this.#random();
      throw new Error(`the score ${score} is not loaded.`);
    });
  }

  /**
   * Of the hidden layers.
   * @param {string} score
   * @returns {Float64Array[]}
   */
  #unitScores(score) {
    return this.#once(`units ${score}`, () => {
      const hidden = this.layers.slice(0, -1);
      if (score === "l1") return hidden.map(l1);
      if (score === "taylor")
        return hidden.map((_, number) =>
          // written with as few digits as a float32 needs
          Float64Array.from(
            this.facts.taylor.units[this.facts.layers[number].weight],
            Math.fround,
          ),
        );
      let start = 0;
      return hidden.map(({ inputs, outputs, weight }) => {
        const first = start; // the first of each unit's numbers
        start += weight.length;
        return Float64Array.from(
          { length: outputs },
          (_, unit) => this.#random()[first + unit * inputs],
        );
      });
    });
  }

  /** A number drawn for each weight. */
  #random() {
    return this.#once("random", () => {
      const random = new Random(this.facts.seed);
      return Float32Array.from(this.weights, () => random.number());
    });
  }

  /**
   * @template T
   * @param {string} name
   * @param {() => T} make
   * @returns {T}
   */
  #once(name, make) {
    if (!this.scores.has(name)) this.scores.set(name, make());
    return this.scores.get(name);
  }
}

/** @param {Layer} layer */
function all({ outputs }) {
  return new Uint8Array(outputs).fill(1);
}
