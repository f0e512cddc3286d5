// @ts-check
/** The page: its controls, the thread that computes, and the address. */
import {
  drawCurve,
  drawNumbers,
  drawText,
  element,
  parting,
  setting,
  summary,
} from "./drawing.js";
import { Parts } from "./parts.js";
import { fromLink, offered, toLink } from "./state.js";

/** An element of the page. @param {string} id @returns {any} */
const the = (id) => document.getElementById(id);

const LINK_REST = 300; // ms after the last change, until the address follows

/** Why this browser cannot do it; empty if it can. */
function hindrance() {
  if (typeof WebAssembly === "undefined") return "This browser has no WebAssembly";
  if (typeof Worker === "undefined")
    return "This browser lets the page have no thread of its own";
  return "";
}

/** @param {string} words */
function giveUp(words) {
  the("live").hidden = the("waiting").hidden = true;
  the("still").hidden = false;
  the("trouble").textContent =
    `${words.replace(/\.$/, "")}, so the network cannot run here.` +
    " Below is what the course's Python wrote with it.";
}

class Page {
  /** @param {Worker} worker @param {any} facts */
  constructor(worker, facts) {
    this.worker = worker;
    this.facts = facts;
    this.id = 0;
    this.started = 0;
    this.controls = fromLink(facts, location.hash);
    /** @type {any} */
    this.state = { controls: this.controls, prompt: "", dense: [], pruned: [] };
    this.link = 0;
    this.parts = new Parts(the("parts"), facts, (off) => this.change({ off }));
    this.#fill();
    this.#invite();
    this.#listen();
    this.#go();
  }

  /** What the selections offer. */
  #fill() {
    const { scores, prompts } = this.facts;
    const options = Object.entries(scores).map(([name, { label }]) =>
      element("option", label, { value: name }),
    );
    the("score").replaceChildren(...options);
    the("example").replaceChildren(
      element("option", "a prompt ...", { value: "" }),
      ...prompts.map((/** @type {string} */ prompt) => element("option", prompt)),
    );
  }

  /** Settings to try: links to this page. */
  #invite() {
    const links = Object.entries(this.facts.tries).map(([words, link]) => {
      const line = document.createElement("li");
      line.append(element("a", words, { href: `${link}` }));
      return line;
    });
    the("tries").replaceChildren(element("li", "Try:"), ...links);
  }

  #listen() {
    const { facts } = this;
    const on = (
      /** @type {string} */ id,
      /** @type {string} */ kind,
      /** @type {() => void} */ act,
    ) => the(id).addEventListener(kind, act);
    on("sparsity", "input", () => {
      const { stops } = facts.scopes[this.controls.scope];
      this.change({ sparsity: stops[Number(the("sparsity").value)] });
    });
    on("score", "input", () => this.change({ score: the("score").value }));
    on("scope", "input", () => this.change({ scope: the("scope").value }));
    on("prompt", "input", () => this.change({ prompt: the("prompt").value }));
    on("example", "input", () => {
      if (the("example").value) this.change({ prompt: the("example").value });
      the("example").value = "";
    });
    on("again", "click", () => this.change({ draw: this.controls.draw + 1 }));
    on("restore", "click", () => this.change({ off: [] }));
    the("controls").addEventListener("submit", (/** @type {Event} */ event) =>
      event.preventDefault(),
    );
    addEventListener("hashchange", () => {
      if (location.hash !== toLink(this.controls))
        this.change(fromLink(facts, location.hash));
    });
    this.worker.addEventListener("message", ({ data }) => this.#hear(data));
  }

  /** @param {Partial<import("./state.js").Controls>} wanted */
  change(wanted) {
    this.controls = offered(this.facts, { ...this.controls, ...wanted });
    this.#go();
    clearTimeout(this.link);
    this.link = setTimeout(
      () => history.replaceState(null, "", toLink(this.controls)),
      LINK_REST,
    );
  }

  #go() {
    this.started = performance.now();
    this.worker.postMessage({ id: ++this.id, controls: this.controls });
    the("trouble").textContent = "";
    the("live").dataset.state = "asked";
    this.#show();
  }

  /** The controls as they are set. */
  #show() {
    const { sparsity, score, scope, prompt, off } = this.controls;
    const { stops } = this.facts.scopes[scope];
    const scopes = this.facts.scores[score].scopes;
    the("score").value = score;
    if (the("scope").dataset.of !== score) {
      the("scope").replaceChildren(
        ...scopes.map((/** @type {string} */ name) => element("option", name)),
      );
      the("scope").dataset.of = score;
    }
    the("scope").value = scope;
    if (the("prompt").value !== prompt) the("prompt").value = prompt;
    const percent = `${Number((100 * sparsity).toPrecision(6))}%`;
    the("sparsity").max = stops.length - 1;
    the("sparsity").value = stops.indexOf(sparsity);
    the("sparsity").setAttribute("aria-valuetext", percent);
    the("stop").textContent = percent;
    this.parts.draw(off, this.state.share);
  }

  /** @param {any} message */
  #hear({ id, state, trouble, fetching }) {
    if (id !== this.id) return;
    if (trouble) the("trouble").textContent = trouble;
    if (fetching)
      the("said").textContent =
        `Fetching the score ${this.facts.scores[fetching].label} ...`;
    if (state) this.#draw(state);
  }

  /** @param {any} news the newest part of the state */
  #draw(news) {
    const { facts } = this;
    if (news.controls)
      this.state = { ...this.state, loss: null, rates: null, settled: false };
    const state = Object.assign(this.state, news);
    if (news.dense)
      drawText(the("dense"), state.prompt, state.dense, state.dense, facts.pieces);
    if (news.controls) the("setting").textContent = setting(facts, state.controls);
    if (news.pruned)
      drawText(the("pruned"), state.prompt, state.pruned, state.dense, facts.pieces);
    if (news.settled) {
      state.took = performance.now() - this.started;
      the("said").textContent =
        `${setting(facts, state.controls)}. ${parting(state, facts.count)}` +
        ` Pruned and written in ${state.took.toFixed(0)} ms, in this browser. ${state.remark}`;
      this.parts.draw(state.controls.off, state.share);
    }
    if (state.weights && (news.settled || news.loss || news.rates)) {
      drawNumbers(the("numbers").tBodies[0], facts, state);
      drawCurve(the("curve"), facts, state);
    }
    if (news.settled || news.finished)
      the("live").dataset.state = news.finished ? "finished" : "written";
    if (news.finished)
      the("said").textContent = `${summary(facts, state)} ${state.remark}`.trim();
  }
}

function begin() {
  const reason = hindrance();
  if (reason) return giveUp(reason);
  the("waiting").hidden = false;
  let worker;
  try {
    worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  } catch {
    return giveUp("This browser does not let the page start a thread");
  }
  worker.addEventListener("error", () => giveUp("The page's thread could not be started"));
  worker.addEventListener("message", ({ data }) => {
    if (data.failed) giveUp(data.failed);
    if (data.facts) {
      the("still").hidden = true;
      the("live").hidden = false;
      new Page(worker, data.facts);
    }
  });
}

begin();
