/**
 * The worker: it loads the network, prunes, evaluates, counts, times and fine-tunes, so
 * that the page stays free. What takes long is done in slices; whenever another setting
 * has come meanwhile, the old one is left, and only the newest is worked on.
 *
 * It is told { type: "set", setting, picture } or "picture", "tune", "stop" (tuning), "forget"
 * (what was tuned); it answers
 * { type: "ready" | "pictures" | "state" | "answers" | "sizes" | "curve" | "times" |
 * "tuning" | "tuned" | "note" | "failed", ... } as drawn by main.js.
 *
 * @typedef {import("./state.js").Setting} Setting
 * @typedef {import("./pruning.js").Pruned} Pruned
 * @typedef {{ type: string, setting: Setting, run?: number }} Job
 * @typedef {object} Tuned  a fine-tuned network
 * @property {import("./units.js").Layer[]} layers
 * @property {Uint8Array} predicted  its answers
 * @property {number} tuned  pictures it was fine-tuned on
 * @property {number} runs  how often
 */

import { sampled } from "./drawn.js";
import { Kernels } from "./kernels.js";
import { fetched, fromDifferences, load } from "./load.js";
import { Network, Pictures, normalised } from "./network.js";
import { Trained } from "./pruning.js";
import { saved, savedSparse, zipped } from "./sizes.js";
import { keyOf, ofKind } from "./state.js";
import { ROUNDS, Race } from "./timing.js";
import { Tuning } from "./tuning.js";

const SLICE = 128; // pictures evaluated before the worker looks for something newer
const LOOK = 30; // steps of fine-tuning between two looks at the accuracy

/** @type {Work} */
let work;

class Work {
  /**
   * @param {any} facts
   * @param {Kernels} kernels
   * @param {Trained} trained
   * @param {Uint8Array} first  the first pictures, then the labels of all
   */
  constructor(facts, kernels, trained, first) {
    this.facts = facts;
    this.kernels = kernels;
    this.trained = trained;
    this.greys = normalised(facts.mean, facts.std);
    this.size = facts.layers[0].inputs;
    this.pictures = new Pictures(kernels, facts.pictures, this.size, this.greys);
    const early = first.length - facts.pictures;
    /** @type {Uint8Array[]} */
    this.pixels = [fromDifferences(first.subarray(0, early))];
    this.pictures.add(this.pixels[0]);
    this.labels = first.slice(early);
    const network = () => new Network(kernels, trained.layers);
    this.dense = network(); // never changed
    this.shown = network(); // what the page shows
    this.other = network(); // for the other stops, and for the time
    this.third = network();
    /** @type {Map<string, Uint8Array>} the answers of networks as pruned, by setting */
    this.known = new Map();
    /** @type {Map<string, Tuned>} fine-tuned ones */
    this.tuned = new Map();
    /** @type {Setting | null} */
    this.last = null;
    /** @type {Job | null} */
    this.wanted = null;
    this.busy = false;
    this.tuning = false;
    /** @type {{ images: Float32Array, labels: Uint8Array } | null} */
    this.training = null;
    /** @type {Record<string, number> | null} */
    this.denseBytes = null;
    /** @type {Pruned | undefined} */
    this.pruned = undefined;
    /** @type {Uint8Array | null} the picture that both networks are asked about */
    this.asked = null;
    this.marks = sampled(facts.layers);
  }

  /** @param {Job} job */
  want(job) {
    this.wanted = job;
    this.last = job.setting;
    if (!this.busy) this.#run();
  }

  async #run() {
    this.busy = true;
    while (this.wanted) {
      const job = this.wanted;
      this.wanted = null;
      try {
        this.tuning = job.type === "tune";
        const steps = this.tuning ? this.tune(job) : this.settle(job.setting);
        for await (const _ of steps) {
          await turn();
          if (this.wanted) break;
        }
      } catch (error) {
        fail(error);
      }
    }
    this.busy = this.tuning = false;
  }

  // --------------------------------------------------------------------- one setting

  /**
   * Everything about a setting, the most urgent first: an estimate on the first
   * pictures, then all of them, the file, the other stops, the time.
   * @param {Setting} setting
   */
  async *settle(setting) {
    if (this.trained.needsFile(setting)) {
      post({ type: "note", words: "Fetching the Taylor scores ..." });
      this.trained.setTaylor(await load(this.facts.files.taylor));
      yield;
    }
    const pruned = this.show(setting);
    yield;
    yield* this.complete(setting, pruned);
    await this.count(setting);
    yield;
    yield* this.curve(setting);
    yield* this.time(setting, pruned);
  }

  /**
   * Prune, and say what can be said at once.
   * @param {Setting} setting
   */
  show(setting) {
    const pruned = this.trained.prune(setting);
    const tuned = this.tuned.get(keyOf(setting));
    this.shown.fill(tuned?.layers ?? pruned.layers);
    const known = tuned?.predicted ?? this.known.get(keyOf(setting));
    this.state(setting, pruned, known ?? this.shown.predict(this.pictures, 0, this.facts.first));
    return pruned;
  }

  /**
   * @param {Setting} setting
   * @param {Pruned} pruned
   * @param {Uint8Array} predicted
   */
  state(setting, pruned, predicted) {
    const tuned = this.tuned.get(keyOf(setting))?.tuned ?? 0;
    this.say(setting, pruned, predicted, this.shown, tuned);
    this.answer(pruned);
  }

  /**
   * What the page draws of a network; it keeps that of each stop.
   * @param {Setting} setting
   * @param {Pruned} pruned
   * @param {Uint8Array} predicted
   * @param {Network} network
   * @param {number} tuned  pictures that it was fine-tuned on
   */
  say(setting, pruned, predicted, network, tuned = 0) {
    const kept = network.layers.map(layer => layer.kept);
    const numbers = network.layers.map(layer => layer.outputs);
    const drawn = this.marks.of(pruned.mask, this.facts.layers);
    post({ type: "state", setting, predicted, kept, numbers, tuned, drawn, units: pruned.units });
  }

  /**
   * All pictures.
   * @param {Setting} setting
   * @param {Pruned} pruned
   */
  *complete(setting, pruned) {
    if (this.tuned.has(keyOf(setting))) return;
    const found = yield* this.predictions(this.shown, setting);
    if (found) this.state(setting, pruned, found);
  }

  /**
   * What a network answers to all pictures, remembered by setting; null where that was
   * known already.
   * @param {Network} network
   * @param {Setting} setting
   */
  *predictions(network, setting) {
    if (this.known.get(keyOf(setting))?.length === this.pictures.count) return null;
    const predicted = new Uint8Array(this.pictures.count);
    for (let from = 0; from < predicted.length; from += SLICE) {
      const to = Math.min(predicted.length, from + SLICE);
      predicted.set(network.predict(this.pictures, from, to), from);
      yield;
    }
    this.known.set(keyOf(setting), predicted);
    return predicted;
  }

  /**
   * Bytes of the file.
   * @param {Setting} setting
   */
  async count(setting) {
    const bytes = await this.bytes(this.shown);
    this.denseBytes ??= await this.bytes(this.dense);
    post({ type: "sizes", setting, bytes, dense: this.denseBytes });
  }

  /** @param {Network} network */
  async bytes(network) {
    const layers = network.copied();
    const file = saved(layers, this.facts.layers);
    const sparse = savedSparse(layers, this.facts.layers);
    return { saved: file.length, sparse: sparse.length, zipped: await zipped(file) };
  }

  /**
   * The same score and scope at the slider's other stops.
   * @param {Setting} setting
   */
  *curve(setting) {
    for (const sparsity of this.facts.kinds[setting.kind].stops) {
      const place = { ...setting, sparsity };
      if (this.known.get(keyOf(place))?.length !== this.pictures.count) {
        const pruned = this.trained.prune(place);
        this.other.fill(pruned.layers);
        yield;
        const found = yield* this.predictions(this.other, place);
        if (found && !this.tuned.has(keyOf(place))) this.say(place, pruned, found, this.other);
        post({ type: "curve", setting, points: this.points(setting) });
      }
    }
    post({ type: "curve", setting, points: this.points(setting) });
  }

  /**
   * The accuracies known so far, of networks as pruned and of fine-tuned ones.
   * @param {Setting} setting
   */
  points(setting) {
    const points = [];
    for (const sparsity of this.facts.kinds[setting.kind].stops) {
      const place = keyOf({ ...setting, sparsity });
      for (const [predicted, tuned] of [
        [this.known.get(place), false],
        [this.tuned.get(place)?.predicted, true],
      ])
        if (predicted instanceof Uint8Array)
          points.push({ sparsity, tuned, accuracy: this.accuracy(predicted), pictures: predicted.length });
    }
    return points;
  }

  /** @param {Uint8Array} predicted */
  accuracy(predicted) {
    return predicted.reduce((sum, a, n) => sum + (a === this.labels[n] ? 1 : 0), 0) / predicted.length;
  }

  /**
   * Time for one picture: the dense network; the pruned one with its zeros multiplied;
   * with them skipped; and a network from which units were removed.
   * @param {Setting} setting
   * @param {Pruned} pruned
   */
  *time(setting, pruned) {
    const { kinds } = this.facts;
    const smaller = kinds[setting.kind].zeros
      ? this.trained.prune(ofKind(setting, kinds, "channels"))
      : pruned;
    const zeros = kinds[setting.kind].zeros ? pruned.layers : this.trained.zeroed(pruned);
    this.other.fill(zeros);
    this.third.fill(smaller.layers);
    const input = this.kernels.floats(this.dense.input, this.size);
    input.set(this.normal(this.asked ?? this.pixels[0].subarray(0, this.size)));
    const from = this.dense.input;
    const race = new Race({
      dense: () => this.dense.runDense(from),
      zeros: () => this.other.runDense(from),
      sparse: () => this.other.runSparse(from),
      removed: () => this.third.runDense(from),
    });
    while (race.rounds < ROUNDS) {
      yield* race.round();
      if (race.rounds % 3 === 0)
        post({
          type: "times",
          setting,
          times: race.results(),
          rounds: race.rounds,
          done: race.rounds === ROUNDS,
        });
    }
  }

  // --------------------------------------------------------------------- one picture

  /**
   * What both networks answer to the picture that is picked or drawn.
   * @param {Pruned} [pruned]
   */
  answer(pruned = this.pruned) {
    this.pruned = pruned;
    if (!this.asked) return;
    const picture = this.normal(this.asked);
    const [now, before] = [this.shown, this.dense].map(network => network.outputs(picture));
    const hidden = now.slice(0, -1).map((values, layer) => spread(values, pruned?.units[layer]));
    post({ type: "answers", now: now[now.length - 1], before: before[before.length - 1], hidden });
  }

  /** @param {Uint8Array} pixels */
  normal(pixels) {
    return Float32Array.from(pixels, grey => this.greys[grey]);
  }

  // ---------------------------------------------------------------------- fine-tuning

  /**
   * Fine-tune what is shown, a step at a time, and look at the accuracy now and then.
   * @param {Job} job
   */
  async *tune({ setting, run }) {
    if (!this.training) {
      post({ type: "note", run, words: "Fetching training pictures ..." });
      this.training = await this.#trainingPictures();
      yield;
    }
    const { images, labels } = this.training;
    const { steps, batch } = this.facts.tuning;
    const before = this.tuned.get(keyOf(setting));
    const hold = this.facts.kinds[setting.kind].zeros;
    const pruned = this.trained.prune(setting);
    this.shown.fill(before?.layers ?? pruned.layers);
    const runs = before?.runs ?? 0;
    const tuning = new Tuning(this.shown, images, labels, this.facts.tuning, runs, hold);
    yield* this.look(setting, run, 0, null);
    while (tuning.done < steps) {
      const loss = tuning.step();
      yield;
      if (tuning.done % LOOK === 0) yield* this.look(setting, run, tuning.done, loss);
    }
    this.shown.compress();
    const predicted = this.shown.predict(this.pictures, 0, this.pictures.count);
    const seen = (before?.tuned ?? 0) + steps * batch;
    const layers = this.shown.copied();
    this.tuned.set(keyOf(setting), { layers, predicted, tuned: seen, runs: runs + 1 });
    this.state(setting, pruned, predicted);
    post({ type: "tuned", setting, run, accuracy: this.accuracy(predicted) });
    await this.count(setting);
    yield* this.curve(setting);
    yield* this.time(setting, { ...pruned, layers });
  }

  /**
   * The accuracy on all validation pictures, none of which it trains on.
   * @param {Setting} setting
   * @param {number | undefined} run
   * @param {number} step
   * @param {number | null} loss
   */
  *look(setting, run, step, loss) {
    this.shown.compress();
    const predicted = new Uint8Array(this.pictures.count);
    for (let from = 0; from < predicted.length; from += SLICE) {
      const to = Math.min(predicted.length, from + SLICE);
      predicted.set(this.shown.predict(this.pictures, from, to), from);
      yield;
    }
    const { steps } = this.facts.tuning;
    const accuracy = this.accuracy(predicted);
    post({ type: "tuning", setting, run, step, steps, loss, accuracy });
    this.answer();
  }

  async #trainingPictures() {
    const content = await load(this.facts.files.training);
    const count = this.facts.training;
    const pixels = fromDifferences(content.subarray(0, content.length - count));
    return { images: this.normal(pixels), labels: content.slice(content.length - count) };
  }

  // ------------------------------------------------------------------------- pictures

  async loadRest() {
    const pixels = fromDifferences(await load(this.facts.files.rest));
    this.pixels.push(pixels);
    this.pictures.add(pixels);
    post({ type: "pictures", pixels });
    if (this.last && !this.tuning) this.want({ type: "set", setting: this.last });
  }
}

/**
 * The outputs of the units that are left, at the places they had.
 * @param {Float32Array} values
 * @param {Uint8Array | undefined} units
 */
function spread(values, units) {
  if (!units || units.length === values.length) return values;
  let next = 0;
  return Float32Array.from(units, kept => (kept ? values[next++] : 0));
}

/** Let messages that wait come first. */
const channel = new MessageChannel();
/** @type {(() => void)[]} */
const waiting = [];
channel.port1.onmessage = () => waiting.shift()?.();
function turn() {
  return new Promise(resolve => {
    waiting.push(() => resolve(undefined));
    channel.port2.postMessage(0);
  });
}

/** @param {any} message */
function post(message) {
  postMessage(message);
}

/** @param {unknown} error */
function fail(error) {
  post({ type: "failed", words: error instanceof Error ? error.message : String(error) });
}

async function begin() {
  const facts = JSON.parse(new TextDecoder().decode(await fetched("facts.json")));
  const [content, planes, first] = await Promise.all([
    fetched("kernels.wasm"),
    load(facts.files.weights),
    load(facts.files.first),
  ]);
  const kernels = await Kernels.of(content);
  work = new Work(facts, kernels, new Trained(facts, planes), first);
  post({
    type: "ready",
    facts,
    labels: work.labels,
    pixels: work.pixels[0],
    dense: work.dense.predict(work.pictures, 0, work.pictures.count),
  });
  for (const message of early.splice(0)) take(message);
  await work.loadRest();
  post({ type: "dense", predicted: work.dense.predict(work.pictures, 0, work.pictures.count) });
}

/** @type {any[]} what came before the network did */
const early = [];

/** @param {any} message */
function take(message) {
  if (message.picture) {
    work.asked = message.picture;
    if (message.type === "picture") work.answer();
  }
  if (message.type === "forget") work.tuned.delete(keyOf(message.setting));
  if (["stop", "forget"].includes(message.type))
    work.want({ type: "set", setting: message.setting });
  else if (message.type !== "picture") work.want(message);
}

self.onmessage = ({ data }) => (work ? take(data) : early.push(data));
begin().catch(fail);
