/**
 * The page at work: it takes what the visitor does to the worker, and draws what comes
 * back, at most once a frame.
 *
 * @typedef {import("./state.js").Setting} Setting
 */

import * as charts from "./charts.js";
import { at, Panel, put } from "./panel.js";
import { Pad, fillStrip, painted } from "./pictures.js";
import { fromLink, keyOf, toLink } from "./state.js";
import { html } from "./svg.js";
import { Wires, sample } from "./wires.js";
import { accuracy, byClass, changes, grouped, margin, percent, share, softmax } from "./words.js";

const REST = 150; // milliseconds
const STRIP = 40; // pictures to pick from
const CHANGED = 12; // pictures with another answer that are shown

export class Page {
  /**
   * @param {Worker} worker
   * @param {any} ready  its first message: what there is to work on
   */
  constructor(worker, { facts, labels, pixels, dense }) {
    this.worker = worker;
    this.facts = facts;
    /** @type {Uint8Array} */
    this.labels = labels;
    /** @type {Uint8Array} what the dense network answers */
    this.dense = dense;
    /** @type {Uint8Array[]} the first pictures, and later the rest of them */
    this.pixels = [pixels];
    /** @type {any} what the worker said last, by type */
    this.said = {};
    /** @type {Map<string, any>} its states of networks that were not fine-tuned, by setting */
    this.known = new Map();
    this.dirty = new Set(); // what is to be drawn at the next frame, by type
    this.waiting = new Set(); // and what after it
    /** @type {Map<number, HTMLElement>} pictures that were painted before, by place */
    this.painted = new Map();
    this.width = 0; // of the exhibit
    /** @type {Record<string, number>} of the charts, by id */
    this.widths = {};
    this.curve = ""; // which one was asked for
    this.linked = 0; // the timer after which the address is brought up to date
    this.notice = ""; // stands before the description until the next action
    this.tuning = false;
    this.run = 0; // how often fine-tuning was begun or left
    this.drawn = false; // whether the picture asked about was drawn by the visitor
    const { setting, picture } = fromLink(location.hash, facts);
    this.picture = picture;
    this.panel = new Panel(facts, setting, () => this.#ask());
    this.wires = new Wires(at("network"), facts);
    this.pad = new Pad(at("pad"), () => at("erase").checked, drawn => this.#drew(drawn));
    afterPaint(() =>
      fillStrip(at("strip"), this.#strip(), this.picture, place => this.#pick(place)));
    put("network-words", sample(facts.layers));
    this.#fit();
    this.#listen();
    this.#pick(picture);
    this.#ask();
  }

  // --------------------------------------------------------------- from the worker

  /**
   * Take what the worker says.
   * @param {any} message
   */
  hear(message) {
    if (message.type === "state" && !this.#isNews(message)) return;
    if (message.setting && !this.#isShown(message.setting)) return;
    if ((message.run ?? this.run) !== this.run) return; // of a cancelled fine-tuning
    /** @type {Record<string, () => void>} */
    const take = {
      pictures: () => this.pixels.push(message.pixels),
      dense: () => (this.dense = message.predicted),
      note: () => this.#say(message.words),
      failed: () => this.#fail(message.words),
      tuning: () => this.#showTuning(message),
      tuned: () => this.#endTuning(`Fine-tuned: accuracy ${percent(message.accuracy)}.`, true),
    };
    take[message.type]?.();
    this.said[message.type] = message;
    if (message.type === "times" && message.done) {
      this.#say(this.#describe());
      performance.mark("timed", { detail: message.times });
    }
    this.#later(message.type);
  }

  /**
   * Whether a state, which is kept for the next visit, is another than is shown.
   * @param {any} message
   */
  #isNews(message) {
    if (message.tuned) this.known.delete(keyOf(message.setting));
    else this.known.set(keyOf(message.setting), message);
    const { state } = this.said;
    return (
      !state || keyOf(state.setting) !== keyOf(message.setting) ||
      state.tuned !== message.tuned || state.predicted.length !== message.predicted.length
    );
  }

  #listen() {
    at("tune").addEventListener("click", () => this.#tune());
    at("forget").addEventListener("click", () => this.#forget());
    at("clear").addEventListener("click", () => this.pad.clear());
    at("link").addEventListener("focus", () => at("link").select());
    window.addEventListener("hashchange", () => this.#goTo(location.hash));
    new ResizeObserver(() => {
      if (at("exhibit").clientWidth !== this.width) this.#fit();
      this.width = at("exhibit").clientWidth;
    }).observe(at("exhibit"));
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => this.#fit());
  }

  /** Take the sizes that the page gives; they are asked for only when they change. */
  #fit() {
    for (const id of ["curve", "bars", "classes", "answers"]) this.widths[id] = at(id).clientWidth;
    this.wires.fit();
    this.#later("state", "answers");
  }

  // ----------------------------------------------------------------- to the worker

  /** @param {any} message */
  #send(message) {
    this.worker.postMessage(message);
  }

  /** Ask for the setting; what was known of another one is no longer shown. */
  #ask() {
    this.#endTuning("", false);
    for (const type of ["sizes", "times", "tuning"]) delete this.said[type];
    const { setting } = this.panel;
    this.#send({ type: "set", setting });
    this.#keepLink();
    const known = this.known.get(keyOf(setting));
    if (known) {
      this.said.state = known; // drawn before the worker answers
      this.#later("state");
    }
    const curve = keyOf({ ...setting, sparsity: 0 });
    if (this.curve === curve) return; // the same, at another stop
    this.curve = curve;
    delete this.said.curve;
    this.#later("curve");
  }

  /** Let the address say what is shown, as soon as the visitor rests. */
  #keepLink() {
    clearTimeout(this.linked);
    this.linked = setTimeout(() => {
      const link = toLink(this.panel.setting, this.facts.network, this.picture);
      history.replaceState(null, "", link);
      at("link").value = `Explorer.from_link("${link}")`;
    }, REST);
  }

  /** @param {string} link */
  #goTo(link) {
    if (!link.includes("=")) return; // a place on the page
    const { setting, picture } = fromLink(link, this.facts);
    this.panel.setting = setting;
    this.panel.show();
    if (picture !== this.picture) this.#pick(picture);
    this.#ask();
  }

  /** @param {number} place */
  #pick(place) {
    this.picture = place;
    const pixels = this.#pixelsOf(place);
    this.drawn = false;
    this.pad.set(pixels);
    this.#look(pixels);
    this.#keepLink();
  }

  /** @param {Uint8Array} pixels */
  #drew(pixels) {
    this.drawn = true;
    this.#look(pixels);
  }

  /** @param {Uint8Array} pixels */
  #look(pixels) {
    this.wires.pixels = pixels;
    this.#send({ type: "picture", picture: pixels });
  }

  #tune() {
    const { setting } = this.panel;
    if (this.tuning) {
      this.#endTuning("Fine-tuning was cancelled; the network is as it was before.", false);
      return this.#send({ type: "stop", setting });
    }
    this.tuning = true;
    this.run++;
    put("tune", "Cancel");
    this.#send({ type: "tune", setting, run: this.run });
  }

  #forget() {
    this.#endTuning("", false);
    this.#send({ type: "forget", setting: this.panel.setting });
  }

  // ---------------------------------------------------------------------- pictures

  /** Of the first pictures, which take turns with the classes. */
  #strip() {
    return Array.from({ length: STRIP }, (_, place) => ({
      place,
      pixels: this.#pixelsOf(place),
      name: this.facts.classes[this.labels[place]],
    }));
  }

  /** @param {number} place */
  #pixelsOf(place) {
    const size = 784;
    const early = this.pixels[0].length / size;
    const part = place < early ? this.pixels[0] : (this.pixels[1] ?? this.pixels[0]);
    const start = size * (place < early ? place : this.pixels[1] ? place - early : 0);
    return part.subarray(start, start + size);
  }

  // ----------------------------------------------------------------------- drawing

  /** @param {Setting} setting */
  #isShown(setting) {
    return keyOf(setting) === keyOf(this.panel.setting);
  }

  /**
   * Draw what has changed, at the next frame: first what a key press is about, and when
   * that is painted, the rest.
   * @param {...string} what  types of messages
   */
  #later(...what) {
    if (!this.dirty.size) requestAnimationFrame(() => this.#draw());
    for (const each of what) this.dirty.add(each);
  }

  #draw() {
    const dirty = new Set(this.dirty);
    this.dirty.clear();
    if (!this.said.state) return;
    if (has(dirty, "state", "answers")) this.#drawNetwork();
    if (has(dirty, "state", "dense", "tuning")) this.#drawNumbers();
    if (has(dirty, "state", "curve", "dense", "tuning")) this.#drawCurve();
    performance.mark("drawn", { detail: [...dirty] });
    if (!this.waiting.size) afterPaint(() => this.#drawRest());
    for (const each of dirty) this.waiting.add(each);
  }

  #drawRest() {
    const dirty = new Set(this.waiting);
    this.waiting.clear();
    // each in a task of its own: a key press can come between
    if (has(dirty, "answers")) setTimeout(() => this.#drawAnswers());
    if (has(dirty, "state", "sizes", "times")) setTimeout(() => this.#drawBars());
    if (has(dirty, "state", "dense", "pictures")) setTimeout(() => this.#drawPictures());
  }

  #drawNetwork() {
    this.wires.state = this.said.state;
    const { answers } = this.said;
    if (answers) {
      this.wires.hidden = answers.hidden;
      this.wires.chances = softmax(answers.now);
    }
    this.wires.draw();
  }

  /** The accuracy shown: while it is fine-tuned, of the last look. */
  get #now() {
    const { state, tuning } = this.said;
    const value = this.tuning && tuning ? tuning.accuracy : accuracy(state.predicted, this.labels);
    const count = this.tuning && tuning ? this.labels.length : state.predicted.length;
    return { sparsity: state.setting.sparsity, accuracy: value, margin: margin(value, count), count };
  }

  get #weights() {
    /** @type {{ inputs: number, outputs: number }[]} */
    const layers = this.facts.layers;
    /** @type {number[]} */
    const kept = this.said.state.kept;
    const all = layers.reduce((sum, { inputs, outputs }) => sum + inputs * outputs, 0);
    const left = kept.reduce((a, b) => a + b);
    return { all, left };
  }

  #drawNumbers() {
    const { state } = this.said;
    const { accuracy: value, margin: half, count } = this.#now;
    const { all, left } = this.#weights;
    const [first, second] = state.numbers;
    const tuned = state.tuned ? `, fine-tuned on ${grouped(state.tuned)} pictures` : ", not retrained";
    put("accuracy", percent(value));
    put("margin", ` ± ${(100 * half).toFixed(1)}`);
    const whole = count === this.labels.length ? "" : "first estimate, ";
    put("accuracy-words", `right answers: ${whole}${grouped(count)} validation pictures${tuned}`);
    const rows = [
      ["dense network", percent(accuracy(this.dense, this.labels))],
      ["weights left", `${grouped(left)} of ${grouped(all)}`],
      ["neurons left", `${first} + ${second}`],
    ];
    at("facts").replaceChildren(...rows.flatMap(([name, number]) => [html("dt", {}, name), html("dd", {}, number)]));
    at("forget").hidden = !state.tuned || this.tuning;
    at("network").setAttribute("aria-label", `The network: ${grouped(left)} of ${grouped(all)} weights are left, ${first} neurons in the first layer and ${second} in the second.`);
  }

  #drawCurve() {
    const { curve } = this.said;
    const box = at("curve");
    const dense = accuracy(this.dense, this.labels);
    box.replaceChildren(
      charts.curve(this.widths.curve, this.panel.kind, curve?.points ?? [], this.#now, dense, this.facts.pictures),
    );
  }

  #drawBars() {
    const { sizes, times } = this.said;
    const { all, left } = this.#weights;
    const box = at("bars");
    const known = { weights: left / all, sizes: sizes?.bytes, dense: sizes?.dense, times: times?.times, said: this.panel.said };
    box.replaceChildren(charts.bars(this.widths.bars, charts.barsOf({ ...known, zeros: this.panel.kind.zeros })));
    const dense = times?.times.dense.time[1];
    const found = dense
      ? `Hatched: measured in this browser, one picture, ${times.rounds} rounds in turn, with quartiles; the dense network took ${(1000 * dense).toFixed(0)} µs. Plain: counted.`
      : "Hatched: measured in this browser. Plain: counted.";
    put("bars-note", found);
  }

  #drawAnswers() {
    const { now, before } = this.said.answers;
    const box = at("answers");
    const chances = [before, now].map(softmax);
    box.replaceChildren(charts.answers(this.widths.answers, this.facts.classes, chances[0], chances[1]));
    /** @param {number[]} list */
    const name = list => this.facts.classes[list.indexOf(Math.max(...list))];
    const is = this.drawn ? "Your picture." : `This is: ${this.facts.classes[this.labels[this.picture]]}.`;
    put("answer-words", `${is} The dense network says ${name(chances[0])}, the pruned one ${name(chances[1])}.`);
  }

  #drawPictures() {
    const { predicted } = this.said.state;
    const { classes } = this.facts;
    const box = at("classes");
    const count = classes.length;
    const before = this.dense.subarray(0, predicted.length);
    box.replaceChildren(
      charts.classes(this.widths.classes, classes, byClass(predicted, this.labels, count), byClass(before, this.labels, count)),
    );
    const { places, lost, won } = changes(before, predicted, this.labels);
    put("changed-words", `${grouped(places.length)} of ${grouped(before.length)}: ${grouped(lost)} right before, ${grouped(won)} right now.`);
    at("changed").replaceChildren(...places.slice(0, CHANGED).map(place => this.#changed(place, before, predicted)));
  }

  /** @param {number} place @param {Uint8Array} before @param {Uint8Array} now */
  #changed(place, before, now) {
    const { classes } = this.facts;
    const label = this.labels[place];
    /** @param {string} word @param {number} answer */
    const line = (word, answer) => html("span", {}, `${word} ${classes[answer] ?? "NaN"}${word !== "is" && answer === label ? " ✓" : ""}`);
    if (!this.painted.has(place)) this.painted.set(place, painted(this.#pixelsOf(place)));
    const picture = /** @type {HTMLElement} */ (this.painted.get(place));
    return html("li", {}, picture, line("is", label), line("was", before[place]), line("now", now[place]));
  }

  // ------------------------------------------------------------------------- words

  /**
   * A file that came later is damaged: the rest goes on, with a score that needs none.
   * @param {string} words
   */
  #fail(words) {
    const { setting, kind } = this.panel;
    this.panel.setting = { ...setting, score: kind.scores[0] };
    this.panel.show();
    this.#ask();
    this.notice = words;
    this.#say(words);
  }

  /**
   * @param {string} notice  what is said of it
   * @param {boolean} done  whether it came to its end
   */
  #endTuning(notice, done) {
    if (this.tuning) this.#later("state");
    this.tuning = false;
    if (!done) this.run++;
    this.notice = notice;
    this.#showTuning(null);
    this.#say(notice);
  }

  /** @param {any} message  null where nothing is fine-tuned */
  #showTuning(message) {
    at("tuning").hidden = !message;
    put("tune", this.tuning ? "Cancel" : "Fine-tune");
    const words = message
      ? `Step ${message.step} of ${message.steps}: accuracy ${percent(message.accuracy)}`
      : `${this.facts.tuning.steps} steps of SGD, here, on ${grouped(this.facts.training)} training pictures`;
    put("tune-words", words);
    if (message) at("tuning").value = message.step / message.steps;
  }

  /** @param {string} words */
  #say(words) {
    put("status", words);
  }

  /** What is shown, for a screen reader; said once all is known. */
  #describe() {
    const { times } = this.said.times;
    /** @param {string} name */
    const part = name => share(times[name].ratio[1]);
    return `${this.notice} Of the dense network's time: zeros multiplied ${part("zeros")}, zeros skipped ${part("sparse")}, neurons removed ${part("removed")}.`.trimStart();
  }
}

/**
 * @param {Set<string>} dirty
 * @param {...string} types
 */
function has(dirty, ...types) {
  return types.some(type => dirty.has(type));
}

/**
 * In a frame of its own, after the one that is being drawn.
 * @param {() => void} work
 */
function afterPaint(work) {
  setTimeout(() => requestAnimationFrame(work));
}
