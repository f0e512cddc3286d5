// @ts-check
/** The network as a table: a row a block, a button for each part of it. Pressed: it is
 * there. One button is in the tab order; arrow keys move to the others. */
import { element } from "./drawing.js";
import { heads, named } from "./state.js";

export class Parts {
  /**
   * @param {HTMLTableElement} table
   * @param {any} facts
   * @param {(off: string[]) => void} changed
   */
  constructor(table, facts, changed) {
    this.facts = facts;
    this.changed = changed;
    /** @type {string[]} */
    this.off = [];
    /** @type {HTMLButtonElement[][]} */
    this.buttons = [];
    const { blocks, heads: count } = facts.network;
    const top = table.createTHead().insertRow();
    const columns = [
      "block",
      ...Array.from({ length: count }, (_, h) => `${h}`),
      "all",
      "MLP",
    ];
    top.append(...columns.map((name) => element("th", name, { scope: "col" })));
    const over = document.createElement("caption");
    over.textContent = "Of each block: the heads of its attention, all of them, its MLP";
    table.append(over);
    const body = table.createTBody();
    for (let block = 0; block < blocks; block++) {
      const row = body.insertRow();
      const own = this.#names(block);
      this.buttons.push(own.map((name) => this.#button(name)));
      row.append(
        ...this.buttons[block].map((button, column) => {
          const cell = element(column ? "td" : "th", "", column ? {} : { scope: "row" });
          cell.append(button);
          return cell;
        }),
      );
    }
    this.buttons[0][0].tabIndex = 0;
    table.addEventListener("keydown", (event) => this.#move(event));
    table.addEventListener("focusin", (event) => this.#enter(event.target));
  }

  /** @param {number} block the names of a row's buttons */
  #names(block) {
    const count = this.facts.network.heads;
    const single = Array.from({ length: count }, (_, head) => `${block}.${head}`);
    return [`${block}`, ...single, `${block}.attention`, `${block}.mlp`];
  }

  /** @param {string} name */
  #button(name) {
    const [block, part] = name.split(".");
    const label = { undefined: block, attention: "all", mlp: "MLP" }[`${part}`] ?? part;
    const button = element("button", label, { type: "button", "data-part": name });
    button.tabIndex = -1;
    if (part !== undefined && part !== "attention") {
      const meter = element("span", "", { class: "meter" });
      meter.append(document.createElement("span"));
      button.append(meter);
    }
    button.addEventListener("click", () => this.#toggle(name));
    return button;
  }

  /** Single heads and MLPs that a button stands for. @param {string} name */
  #single(name) {
    const both = name.includes(".") ? [name] : [`${name}.attention`, `${name}.mlp`];
    return heads(this.facts, both);
  }

  /** @param {string} name */
  #toggle(name) {
    const gone = heads(this.facts, this.off);
    const own = [...this.#single(name)];
    const out = own.some((each) => !gone.has(each));
    for (const each of own) out ? gone.add(each) : gone.delete(each);
    this.changed(named(this.facts, gone));
  }

  /**
   * @param {string[]} off
   * @param {number[][] | undefined} share of each part's weights that is left
   */
  draw(off, share) {
    this.off = off;
    const gone = heads(this.facts, off);
    for (const button of this.buttons.flat()) {
      const name = `${button.dataset.part}`;
      const own = [...this.#single(name)];
      const there = own.filter((each) => !gone.has(each)).length;
      const state = there === own.length ? "true" : there ? "mixed" : "false";
      button.setAttribute("aria-pressed", state);
      button.setAttribute("aria-label", this.#said(name, share));
      const left = this.#share(name, share);
      button.querySelector(".meter span")?.setAttribute("data-share", `${left}`);
      const bar = /** @type {HTMLElement | null} */ (button.querySelector(".meter span"));
      bar?.style.setProperty("--share", `${left}`);
    }
  }

  /** @param {string} name @param {number[][] | undefined} share */
  #share(name, share) {
    const [block, part] = name.split(".");
    const column = part === "mlp" ? this.facts.network.heads : Number(part);
    return share?.[Number(block)]?.[column] ?? 1;
  }

  /** @param {string} name @param {number[][] | undefined} share */
  #said(name, share) {
    const [block, part] = name.split(".");
    if (part === undefined) return `block ${block}, whole`;
    if (part === "attention") return `all heads of block ${block}`;
    const left = `${Math.round(100 * this.#share(name, share))}% of its weights left`;
    return part === "mlp"
      ? `MLP of block ${block}, ${left}`
      : `head ${part} of block ${block}, ${left}`;
  }

  /** @param {EventTarget | null} target the button that got the focus */
  #enter(target) {
    for (const button of this.buttons.flat()) button.tabIndex = button === target ? 0 : -1;
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const row = this.buttons.findIndex((each) =>
      each.includes(/** @type {any} */ (event.target)),
    );
    if (row < 0) return;
    const column = this.buttons[row].indexOf(/** @type {any} */ (event.target));
    const last = this.buttons[row].length - 1;
    const to = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      Home: [row, 0],
      End: [row, last],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    this.buttons[to[0]]?.[to[1]]?.focus();
  }
}
