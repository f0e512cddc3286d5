// @ts-check
/** What the page shows of a state: texts, numbers, the parts, the curve. Nothing here
 * computes; everything here is called with the newest state. */

const SVG = "http://www.w3.org/2000/svg";
export const WAITING = "...";

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} text
 * @param {Record<string, string>} [attributes]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** @param {string} words the ends of paragraphs as a sign */
const inALine = (words) => words.replaceAll("\n", "\u00b6 ");

/** How many pieces both wrote alike before they part.
 * @param {number[]} dense
 * @param {number[]} pruned */
export function alike(dense, pruned) {
  const place = pruned.findIndex((piece, i) => piece !== dense[i]);
  return place < 0 ? pruned.length : place;
}

/**
 * A text behind its prompt. A bar stands where it parts from the dense network's; what
 * follows is underlined.
 * @param {Element} into
 * @param {string} prompt
 * @param {number[]} written
 * @param {number[]} dense
 * @param {string[]} words
 */
export function drawText(into, prompt, written, dense, words) {
  const same = alike(dense, written);
  const said = (/** @type {number[]} */ pieces) =>
    inALine(pieces.map((piece) => words[piece]).join(""));
  const nodes = [
    element("span", inALine(prompt), { class: "prompt" }),
    element("span", said(written.slice(0, same))),
  ];
  if (same < written.length)
    nodes.push(
      element("span", "|", { class: "bar" }),
      element("mark", said(written.slice(same))),
    );
  into.replaceChildren(...nodes);
}

/** @param {any} state @param {number} count of pieces */
export function parting(state, count) {
  const same = alike(state.dense, state.pruned);
  if (state.pruned.length < count) return "";
  if (same === count) return `All ${count} pieces are the same.`;
  return `The texts part after ${same} of ${count} pieces.`;
}

const whole = (/** @type {number} */ value) => Math.round(value).toLocaleString("en");
const megabytes = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
const signed = (/** @type {number} */ value, /** @type {number} */ digits) =>
  `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(digits)}`;
/** @param {{ratio: number[]}} rates */
const faster = ({ ratio: [low, middle, high] }) =>
  `${middle.toFixed(2)} times as fast, quartiles ${low.toFixed(2)} to ${high.toFixed(2)}`;
const perplexity = (/** @type {number} */ loss) =>
  loss < Math.log(1e6)
    ? Math.exp(loss).toLocaleString("en", {
        minimumFractionDigits: 1,
        maximumFractionDigits: 1,
      })
    : Math.exp(loss).toExponential(1);

/**
 * The rows of the table: what is said below the label, and both numbers; in the order
 * of the facts' rows.
 * @param {any} facts
 * @param {any} state
 * @returns {{label: string, note: string, dense: string, pruned: string}[]}
 */
export function rows(facts, state) {
  const { loss, before, rates, weights } = state;
  const of = loss && `${whole(loss.pieces)} pieces of validation text`;
  const more =
    loss && `more than dense: ${signed(loss.more, 3)} \u00b1 ${loss.margin.toFixed(3)}`;
  const both = (/** @type {any} */ known, /** @type {(x: any) => string} */ shown) =>
    known ? [shown(before), shown(loss)] : [WAITING, WAITING];
  const context =
    8 *
    facts.network.blocks *
    facts.network.heads *
    facts.network.head_width *
    facts.network.context;
  const values = [
    [
      "",
      whole(weights),
      `${whole(state.kept)} (${Math.round((100 * state.kept) / weights)}% of them)`,
    ],
    [more, ...both(loss, (each) => each.mean.toFixed(3))],
    [of && `on ${of}`, ...both(loss, (each) => perplexity(each.mean))],
    [of && `on ${of}`, ...both(loss, (each) => each.bits.toFixed(3))],
    ["", megabytes(state.whole), megabytes(state.saved)],
    ["", megabytes(state.whole), megabytes(state.packed)],
    ["", megabytes(context), megabytes(state.cache)],
    [
      "measured here, in turn, one thread",
      rates ? whole(rates.dense) : WAITING,
      rates ? `${whole(rates.pruned)} (${faster(rates)})` : WAITING,
    ],
  ];
  return values.map(([note, dense, pruned], i) => {
    const [label, own] = facts.rows[i];
    return { label, note: note || own, dense, pruned };
  });
}

/** @param {Element} body @param {any} facts @param {any} state */
export function drawNumbers(body, facts, state) {
  const lines = rows(facts, state).map(({ label, note, dense, pruned }) => {
    const line = document.createElement("tr");
    const name = element("th", label, { scope: "row" });
    name.append(element("small", note));
    const [value, share] = pruned.split(" (");
    const last = element("td", value);
    if (share) last.append(element("small", share.replace(")", "")));
    line.append(name, element("td", dense), last);
    return line;
  });
  body.replaceChildren(...lines);
}

/**
 * The state in words, for who does not see it.
 * @param {any} facts
 * @param {any} state
 */
export function summary(facts, state) {
  const { loss, before, rates } = state;
  const parts = [
    `${whole(state.kept)} of ${whole(state.weights)} weights kept`,
    loss
      ? `loss ${loss.mean.toFixed(3)} nats a piece, dense ${before.mean.toFixed(3)},` +
        ` ${signed(loss.more, 3)} with a margin of ${loss.margin.toFixed(3)},` +
        ` bits a character ${loss.bits.toFixed(3)}`
      : "loss not evaluated yet",
    rates
      ? `pieces a second ${whole(rates.dense)} dense and ${whole(rates.pruned)} pruned, ${faster(rates)}`
      : "speed not measured yet",
  ];
  return `${setting(facts, state.controls)}: ${parts.join(", ")}. ${parting(state, facts.count)}`;
}

/** @param {any} facts @param {import("./state.js").Controls} controls */
export function setting(facts, { sparsity, score, scope, off }) {
  const without = off.length
    ? `, without ${off.length} part${off.length > 1 ? "s" : ""}`
    : "";
  if (!sparsity) return `Not pruned${without}`;
  const percent = Number((100 * sparsity).toPrecision(6));
  return `Pruned at ${percent}% (${facts.scores[score].label}, ${scope})${without}`;
}

// ------------------------------------------------------------------------------ curve

const LEFT = 30;
const RIGHT = 370;
const TOP = 52;
const BOTTOM = 226;
const SPAN = 6; // nats from the lower end of the axis to the upper one

/** @param {string} tag @param {Record<string, string | number>} attributes @param {string} [text] */
function drawn(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes))
    made.setAttribute(name, `${value}`);
  if (text) made.textContent = text;
  return made;
}

/** The loss at each stop that was evaluated; thin dashes between them.
 * @param {Element} svg @param {any} facts @param {any} state */
export function drawCurve(svg, facts, state) {
  const { stops } = facts.scopes[state.controls.scope];
  /** @type {[number, number][]} */
  const curve = state.curve ?? [];
  const low = Math.floor(
    Math.min(state.before?.mean ?? 0, ...curve.map(([, loss]) => loss)),
  );
  const x = (/** @type {number} */ stop) =>
    LEFT + 10 + ((RIGHT - LEFT - 20) * stops.indexOf(stop)) / (stops.length - 1);
  const y = (/** @type {number} */ loss) =>
    BOTTOM - ((BOTTOM - TOP) * Math.min(Math.max(loss - low, 0), SPAN)) / SPAN;
  const marks = [];
  for (let nats = low; nats <= low + SPAN; nats++) {
    marks.push(
      drawn("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: y(nats), y2: y(nats) }),
    );
    marks.push(
      drawn(
        "text",
        { class: "soft", x: LEFT - 6, y: y(nats) + 4, "text-anchor": "end" },
        `${nats}`,
      ),
    );
  }
  for (const stop of stops)
    marks.push(
      drawn(
        "text",
        { x: x(stop), y: BOTTOM + 18, "text-anchor": "middle" },
        `${Number((100 * stop).toPrecision(6))}`,
      ),
    );
  marks.push(
    drawn(
      "text",
      { class: "soft", x: (LEFT + RIGHT) / 2, y: BOTTOM + 38, "text-anchor": "middle" },
      "pruned, percent",
    ),
  );
  if (state.before) {
    const at = y(state.before.mean);
    marks.push(drawn("line", { class: "dense", x1: LEFT, x2: RIGHT, y1: at, y2: at }));
    marks.push(drawn("text", { class: "soft", x: LEFT + 3, y: at - 5 }, "dense"));
  }
  marks.push(
    drawn("polyline", {
      class: "path",
      points: curve.map(([s, l]) => `${x(s)},${y(l)}`).join(" "),
    }),
  );
  for (const [stop, loss] of curve) {
    marks.push(drawn("circle", { class: "dot", cx: x(stop), cy: y(loss), r: 4 }));
    if (loss > low + SPAN)
      marks.push(
        drawn(
          "text",
          { x: x(stop), y: y(loss) - 7, "text-anchor": "middle" },
          `\u2191${loss.toFixed(1)}`,
        ),
      );
  }
  marks.push(...here(state, x, y));
  svg.replaceChildren(...marks);
  const said = curve.map(
    ([stop, loss]) => `${Number((100 * stop).toPrecision(6))}%: ${loss.toFixed(2)}`,
  );
  svg.setAttribute(
    "aria-label",
    `Loss in nats a piece. ${said.join(", ") || "No stop was evaluated yet"}.`,
  );
}

/** Where the slider is, and the number large.
 * @param {any} state
 * @param {(stop: number) => number} x
 * @param {(loss: number) => number} y */
function here({ loss, controls, evaluated }, x, y) {
  const marks = [
    drawn("text", { class: "large", x: 0, y: 32 }, loss ? loss.mean.toFixed(2) : WAITING),
  ];
  if (!loss) return marks;
  marks.push(
    drawn(
      "text",
      { x: 92, y: 18 },
      `${signed(loss.more, 2)} \u00b1 ${loss.margin.toFixed(2)} to dense`,
    ),
    drawn(
      "text",
      { class: "soft", x: 92, y: 34 },
      `${whole(loss.pieces)} pieces, ${evaluated} windows, paired`,
    ),
    drawn("circle", { class: "ring", cx: x(controls.sparsity), cy: y(loss.mean), r: 8.5 }),
  );
  return marks;
}
