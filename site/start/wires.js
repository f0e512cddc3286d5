/**
 * The network as a picture that thins out: the picture that it looks at, its neurons, its
 * answers, and a fixed sample of its weights as lines between them.
 */

import { sampled, shares } from "./drawn.js";
import { paint, painted } from "./pictures.js";

const SIDE = 28;

export class Wires {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {any} facts
   */
  constructor(canvas, facts) {
    this.canvas = canvas;
    this.facts = facts;
    this.marks = sampled(facts.layers).marks;
    /** @type {any} */
    this.state = null; // the last "state" of the worker
    /** @type {Uint8Array | null} */
    this.pixels = null;
    this.picture = painted(new Uint8Array(SIDE * SIDE));
    /** @type {Float32Array[]} what the hidden units put out for that picture */
    this.hidden = [];
    /** @type {number[]} how sure the network is of each class */
    this.chances = [];
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.width = this.height = 0;
    this.colours = { line: "", unit: "", lit: "", ink: "", quiet: "" };
    /** @type {[number, number][][]} where each pixel, unit and class is */
    this.places = [];
    this.fit();
  }

  /** Take the size that the page gives it, and its colours. */
  fit() {
    const box = this.canvas.getBoundingClientRect();
    const scale = Math.min(2, window.devicePixelRatio || 1);
    this.width = box.width;
    this.height = box.height;
    this.canvas.width = Math.round(box.width * scale);
    this.canvas.height = Math.round(box.height * scale);
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    const style = getComputedStyle(this.canvas);
    /** @param {string} name */
    const colour = name => style.getPropertyValue(name).trim();
    this.colours = { line: colour("--wire"), unit: colour("--unit"), lit: colour("--lit"), ink: colour("--ink"), quiet: colour("--quiet") };
    this.places = this.#layOut();
  }

  /** @returns {[number, number][][]} */
  #layOut() {
    const { width, height } = this;
    const side = Math.min(0.34 * width, height - 24);
    const labels = width < 520 ? 66 : 92;
    const last = width - labels;
    const span = last - side;
    const [first, second, classes] = this.facts.layers;
    const pixel = side / SIDE;
    return [
      grid(SIDE * SIDE, SIDE, 4 + pixel / 2, (height - side) / 2 + pixel / 2, pixel, pixel),
      block(first.outputs, 10, side + 0.3 * span, height, width < 520 ? 4.2 : 7),
      block(second.outputs, 4, side + 0.68 * span, height, width < 520 ? 5 : 9),
      block(classes.outputs, 1, last - 8, height, 12, 0.86),
    ];
  }

  draw() {
    const { context, width, height, state } = this;
    context.clearRect(0, 0, width, height);
    if (!state) return;
    this.#lines(state.drawn.kept);
    this.#input();
    this.#units(1, state.units[0], state.drawn.incoming[0], state.drawn.outgoing[1]);
    this.#units(2, state.units[1], state.drawn.incoming[1], state.drawn.outgoing[2]);
    this.#classes();
  }

  /** @param {Uint8Array} kept */
  #lines(kept) {
    const { context, places } = this;
    context.strokeStyle = this.colours.line;
    [0, 1, 2].forEach(layer => {
      context.lineWidth = layer === 0 ? 0.6 : 0.7;
      context.globalAlpha = [0.3, 0.34, 0.4][layer];
      context.beginPath();
      this.marks.forEach((mark, i) => {
        if (mark.layer !== layer || !kept[i]) return;
        const from = places[layer][mark.from];
        const to = places[layer + 1][mark.to];
        context.moveTo(from[0], from[1]);
        context.lineTo(to[0], to[1]);
      });
      context.stroke();
    });
    context.globalAlpha = 1;
  }

  #input() {
    const { context, places, pixels } = this;
    const size = places[0][1][0] - places[0][0][0];
    const [left, top] = places[0][0];
    if (pixels) paint(this.picture, pixels);
    context.globalAlpha = 0.86; // the lines that begin in it shine through
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture, left - size / 2, top - size / 2, SIDE * size, SIDE * size);
    context.globalAlpha = 1;
  }

  /**
   * Units: filled and the brighter the more they put out; hollow where no weight comes
   * in or none goes out; none where it was removed.
   * @param {number} layer
   * @param {Uint8Array} there
   * @param {Uint16Array} incoming
   * @param {Uint16Array} outgoing
   */
  #units(layer, there, incoming, outgoing) {
    const { context, colours } = this;
    const values = this.hidden[layer - 1];
    const most = values ? Math.max(1e-9, ...values) : 1;
    const radius = layer === 1 ? Math.min(3, this.width / 220) : Math.min(3.8, this.width / 190);
    this.places[layer].forEach(([x, y], unit) => {
      if (!there[unit]) return;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      if (!incoming[unit] || !outgoing[unit]) {
        context.strokeStyle = colours.quiet;
        context.lineWidth = 0.8;
        context.stroke();
        return;
      }
      context.fillStyle = colours.unit;
      context.fill();
      const strength = values ? values[unit] / most : 0;
      if (strength <= 0) return;
      context.globalAlpha = 0.25 + 0.75 * strength;
      context.fillStyle = colours.lit;
      context.beginPath();
      context.arc(x, y, radius + 0.6, 0, 2 * Math.PI);
      context.fill();
      context.globalAlpha = 1;
    });
  }

  #classes() {
    const { context, colours } = this;
    const best = Math.max(...this.chances);
    context.textBaseline = "middle";
    this.places[3].forEach(([x, y], label) => {
      const chance = this.chances[label] ?? 0;
      context.beginPath();
      context.arc(x, y, 3 + 5 * chance, 0, 2 * Math.PI);
      context.fillStyle = chance > 0.02 ? colours.lit : colours.unit;
      context.fill();
      const bold = chance === best && best > 0;
      context.font = `${bold ? "700" : "400"} ${this.width < 520 ? 11 : 13}px system-ui, sans-serif`;
      context.fillStyle = colours.ink;
      context.fillText(this.facts.classes[label], x + 12, y);
    });
  }
}

/** Which share of the weights is drawn, in words. @param {any[]} layers */
export function sample(layers) {
  const parts = shares().map((every, i) => `${every === 1 ? "every weight" : `one weight of ${every}`} of ${layers[i].name}`);
  const last = parts.pop();
  return `Lines: ${parts.join(", ")} and ${last}. Orange: what a neuron puts out for this picture. Hollow: no weight comes in, or none goes out.`;
}

/**
 * @param {number} count
 * @param {number} columns
 * @param {number} left
 * @param {number} top
 * @param {number} across
 * @param {number} down
 * @returns {[number, number][]}
 */
function grid(count, columns, left, top, across, down) {
  return Array.from({ length: count }, (_, i) => [left + across * (i % columns), top + down * Math.floor(i / columns)]);
}

/**
 * Units in columns, centred.
 * @param {number} count
 * @param {number} columns
 * @param {number} centre
 * @param {number} height
 * @param {number} across
 * @returns {[number, number][]}
 */
function block(count, columns, centre, height, across, part = 0.94) {
  const rows = Math.ceil(count / columns);
  const down = (part * height) / rows;
  const left = centre - (across * (columns - 1)) / 2;
  return grid(count, columns, left, (height - down * (rows - 1)) / 2, across, down);
}
