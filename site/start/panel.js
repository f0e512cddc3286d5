/**
 * The controls: native ones, made from facts.json.
 *
 * @typedef {import("./state.js").Setting} Setting
 * @typedef {import("./state.js").Kind} Kind
 */

import { ofKind } from "./state.js";
import { html } from "./svg.js";

/**
 * An element of the page, by its id.
 * @param {string} id
 * @returns {any}
 */
export function at(id) {
  return document.getElementById(id);
}

/**
 * Write a text into an element, if it is another one: else it would be laid out again.
 * @param {string} id
 * @param {string} words
 */
export function put(id, words) {
  const element = at(id);
  if (element.textContent !== words) element.textContent = words;
}

export class Panel {
  /**
   * @param {any} facts
   * @param {Setting} setting
   * @param {(setting: Setting) => void} changed
   */
  constructor(facts, setting, changed) {
    this.facts = facts;
    this.setting = setting;
    this.changed = changed;
    this.slider = at("sparsity");
    this.slider.addEventListener("input", () => {
      const sparsity = this.kind.stops[this.slider.valueAsNumber];
      this.#take({ ...this.setting, sparsity });
    });
    this.show();
  }

  /** @returns {Kind} */
  get kind() {
    return this.facts.kinds[this.setting.kind];
  }

  /** The stop in words. */
  get said() {
    return this.kind.said[this.kind.stops.indexOf(this.setting.sparsity)];
  }

  /** @param {Setting} setting */
  #take(setting) {
    this.setting = setting;
    this.show();
    this.changed(setting);
  }

  show() {
    const { facts, setting, kind } = this;
    this.slider.max = kind.stops.length - 1;
    this.slider.value = kind.stops.indexOf(setting.sparsity);
    this.slider.setAttribute("aria-valuetext", this.said);
    put("sparsity-said", this.said);
    put("sparsity-hint", `how many of the ${kind.zeros ? "weights" : "neurons"} are gone`);
    const kinds = Object.keys(facts.kinds).map(name => [name, facts.kinds[name].label]);
    this.#offer("kind", kinds, name => ofKind(setting, facts.kinds, name));
    const scores = kind.scores.map(name => [name, name]);
    put("meaning", `${setting.score}: ${kind.meaning[kind.scores.indexOf(setting.score)]}`);
    this.#offer("score", scores, score => ({ ...setting, score }));
    const scopes = kind.scopes.map(name => [name, name]);
    this.#offer("scope", scopes, scope => ({ ...setting, scope }));
  }

  /**
   * Radio buttons; made anew only where others are offered, so that the focus stays.
   * @param {"kind" | "score" | "scope"} name
   * @param {string[][]} options  values and labels
   * @param {(value: string) => Setting} setting
   */
  #offer(name, options, setting) {
    const set = at(name);
    const wanted = options.map(([value]) => value).join();
    if (set.dataset.offered !== wanted) {
      set.dataset.offered = wanted;
      for (const old of set.querySelectorAll("label")) old.remove();
      for (const [value, label] of options)
        set.append(html("label", {}, html("input", { type: "radio", name, value }), html("span", {}, label)));
    }
    for (const radio of set.querySelectorAll("input")) {
      radio.checked = radio.value === this.setting[name];
      radio.onchange = () => this.#take(setting(radio.value));
    }
  }
}
