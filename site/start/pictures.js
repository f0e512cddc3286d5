/** Pictures of the validation set on the page: the strip to pick from, and the pad to
 * draw on. */

import { html } from "./svg.js";

const SIDE = 28;

/**
 * Paint a picture, light on dark, as the network sees it.
 * @param {HTMLCanvasElement} canvas  28 x 28
 * @param {Uint8Array} pixels
 */
export function paint(canvas, pixels) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(SIDE, SIDE);
  pixels.forEach((grey, i) => image.data.set([grey, grey, grey, 255], 4 * i));
  context.putImageData(image, 0, 0);
}

/** @param {Uint8Array} pixels */
export function painted(pixels) {
  const canvas = /** @type {HTMLCanvasElement} */ (html("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" }));
  paint(canvas, pixels);
  return canvas;
}

/**
 * The pictures to pick from: native radio buttons, so that arrow keys go from one to the
 * next.
 * @param {HTMLElement} strip
 * @param {{ place: number, pixels: Uint8Array, name: string }[]} pictures
 * @param {number} picked
 * @param {(place: number) => void} pick
 */
export function fillStrip(strip, pictures, picked, pick) {
  strip.replaceChildren(
    ...pictures.map(({ place, pixels, name }) => {
      const radio = /** @type {HTMLInputElement} */ (
        html("input", { type: "radio", name: "picture", value: place, "aria-label": `Picture ${place}: ${name}` })
      );
      radio.checked = place === picked;
      radio.addEventListener("change", () => pick(place));
      return html("label", { title: name }, radio, painted(pixels));
    }),
  );
}

/** A pad of 28 x 28 pixels to draw on. */
export class Pad {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {() => boolean} erasing
   * @param {(pixels: Uint8Array) => void} changed
   */
  constructor(canvas, erasing, changed) {
    this.canvas = canvas;
    this.erasing = erasing;
    this.changed = changed;
    this.pixels = new Uint8Array(SIDE * SIDE);
    this.cursor = { x: 14, y: 14 };
    this.last = null;
    canvas.addEventListener("pointerdown", event => this.#begin(event));
    canvas.addEventListener("pointermove", event => this.last && this.#drag(event));
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, () => (this.last = null));
    canvas.addEventListener("keydown", event => this.#key(event));
    canvas.addEventListener("focus", () => this.show());
    canvas.addEventListener("blur", () => this.show());
    this.show();
  }

  /** @param {Uint8Array} pixels */
  set(pixels) {
    this.pixels = pixels.slice();
    this.show();
  }

  clear() {
    this.set(new Uint8Array(SIDE * SIDE));
    this.changed(this.pixels);
  }

  show() {
    paint(this.canvas, this.pixels);
    if (document.activeElement !== this.canvas || !this.canvas.matches(":focus-visible")) return;
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    context.fillStyle = "#E69F00";
    context.fillRect(this.cursor.x, this.cursor.y, 1, 1);
  }

  /** @param {PointerEvent} event */
  #begin(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.last = this.#place(event);
    this.#stroke(this.last, this.last, this.erasing());
    event.preventDefault();
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    const place = this.#place(event);
    this.#stroke(this.last ?? place, place, this.erasing());
    this.last = place;
  }

  /** @param {PointerEvent} event */
  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * SIDE - 0.5,
      y: ((event.clientY - box.top) / box.height) * SIDE - 0.5,
    };
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    /** @type {Record<string, number[]>} */
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (step) {
      this.cursor.x = (this.cursor.x + step[0] + SIDE) % SIDE;
      this.cursor.y = (this.cursor.y + step[1] + SIDE) % SIDE;
      this.show();
    } else if (event.key === " ") {
      this.#stroke(this.cursor, this.cursor, event.shiftKey || this.erasing());
    } else return;
    event.preventDefault();
  }

  /**
   * A soft brush along a line.
   * @param {{ x: number, y: number }} from
   * @param {{ x: number, y: number }} to
   * @param {boolean} erase
   */
  #stroke(from, to, erase) {
    const steps = Math.max(1, Math.ceil(2 * Math.hypot(to.x - from.x, to.y - from.y)));
    for (let i = 0; i <= steps; i++) {
      const x = from.x + ((to.x - from.x) * i) / steps;
      const y = from.y + ((to.y - from.y) * i) / steps;
      this.#dab(x, y, erase);
    }
    this.show();
    this.changed(this.pixels);
  }

  /** @param {number} x @param {number} y @param {boolean} erase */
  #dab(x, y, erase) {
    for (let row = 0; row < SIDE; row++)
      for (let column = 0; column < SIDE; column++) {
        const strength = Math.min(1, Math.max(0, 1.9 - Math.hypot(column - x, row - y)));
        const grey = Math.round(230 * strength);
        const i = row * SIDE + column;
        if (strength) this.pixels[i] = erase ? Math.min(this.pixels[i], 230 - grey) : Math.max(this.pixels[i], grey);
      }
  }
}
