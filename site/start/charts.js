/**
 * The charts, as SVG. Colours come from the style sheet by class; each series also
 * differs by shape, dash or hatching, and carries its number.
 *
 * @typedef {import("./state.js").Kind} Kind
 */

import { picture, round, svg, text } from "./svg.js";
import { duration, kilobytes, percent, share } from "./words.js";

// -------------------------------------------------------------------------- accuracy

const LEFT = 44;
const TOP = 14;

/**
 * Accuracy at each stop: full dots rest on all pictures, hollow ones on the first few;
 * stars are fine-tuned.
 * @param {number} width
 * @param {Kind} kind
 * @param {{ sparsity: number, accuracy: number, tuned: boolean, pictures: number }[]} points
 * @param {{ sparsity: number, accuracy: number, margin: number }} now
 * @param {number} dense  the dense network's accuracy
 * @param {number} all  how many pictures there are
 */
export function curve(width, kind, points, now, dense, all) {
  const height = 330;
  const bottom = height - 52;
  const right = width - 14;
  /** @param {number} stop */
  const x = stop => LEFT + ((right - LEFT) * kind.stops.indexOf(stop)) / (kind.stops.length - 1);
  /** @param {number} accuracy */
  const y = accuracy => bottom - (bottom - TOP) * accuracy;
  const pruned = points.filter(point => !point.tuned);
  const tuned = points.filter(point => point.tuned);
  const path = pruned.map(p => `${round(x(p.sparsity))},${round(y(p.accuracy))}`).join(" ");
  const marks = [
    ...[0, 0.2, 0.4, 0.6, 0.8, 1].flatMap(part => [
      svg("line", { class: "grid", x1: LEFT, x2: right, y1: y(part), y2: y(part) }),
      text(LEFT - 6, y(part) + 4, percent(part, 0), "end small"),
    ]),
    ...ticks(kind, width, x, bottom),
    text((LEFT + right) / 2, height - 20, kind.axis, "middle small"),
    text((LEFT + right) / 2, height - 3, "● all pictures  ○ first estimate  ★ fine-tuned", "middle tiny"),
    svg("line", { class: "dense", x1: LEFT, x2: right, y1: y(dense), y2: y(dense) }),
    svg("polyline", { class: "path", points: path }),
    ...pruned.map(p =>
      svg("circle", {
        class: p.pictures === all ? "dot" : "dot open",
        cx: round(x(p.sparsity)),
        cy: round(y(p.accuracy)),
        r: 4,
      }),
    ),
    svg("line", { class: "now", x1: x(now.sparsity), x2: x(now.sparsity), y1: TOP, y2: bottom }),
    text(right, y(dense) - 6, `dense ${percent(dense)}`, "end small halo"),
    svg("line", {
      class: "whisker",
      x1: x(now.sparsity),
      x2: x(now.sparsity),
      y1: y(Math.min(1, now.accuracy + now.margin)),
      y2: y(Math.max(0, now.accuracy - now.margin)),
    }),
    ...tuned.map(p => star(x(p.sparsity), y(p.accuracy))),
    svg("circle", { class: "ring", cx: x(now.sparsity), cy: y(now.accuracy), r: 8.5 }),
  ];
  return picture(width, height, curveWords(kind, pruned, tuned), ...marks);
}

/** @param {Kind} kind @param {number} width @param {(stop: number) => number} x @param {number} bottom */
function ticks(kind, width, x, bottom) {
  const every = width < 420 ? 2 : 1;
  return kind.stops
    .filter((_, place) => (kind.stops.length - 1 - place) % every === 0)
    .map(stop => text(x(stop), bottom + 17, kind.ticks[kind.stops.indexOf(stop)], "middle small"));
}

/**
 * @param {Kind} kind
 * @param {{ sparsity: number, accuracy: number }[]} pruned
 * @param {{ sparsity: number, accuracy: number }[]} tuned
 */
function curveWords(kind, pruned, tuned) {
  /** @param {{ sparsity: number, accuracy: number }} p */
  const say = p => `${kind.said[kind.stops.indexOf(p.sparsity)]}: ${percent(p.accuracy)}`;
  const stars = tuned.length ? ` Fine-tuned: ${tuned.map(say).join(", ")}.` : "";
  return `Accuracy over sparsity. ${pruned.map(say).join(", ")}.${stars}`;
}

/** @param {number} x @param {number} y */
function star(x, y) {
  const points = Array.from({ length: 10 }, (_, i) => {
    const radius = i % 2 ? 4 : 9.5;
    const angle = (Math.PI * i) / 5;
    return `${round(x + radius * Math.sin(angle))},${round(y - radius * Math.cos(angle))}`;
  });
  return svg("polygon", { class: "star", points: points.join(" ") });
}

// ------------------------------------------------------------------------------ bars

/**
 * @typedef {object} Bar  a fraction of the dense network, null until it is known
 * @property {string} label
 * @property {boolean} measured
 * @property {number | null} value
 * @property {number[]} [quartiles]
 * @property {string} [said]  the same in its unit
 */

/**
 * Fractions of the dense network against its 100%: counted ones plain, measured ones
 * hatched, with their quartiles.
 * @param {number} width
 * @param {Bar[]} bars
 */
export function bars(width, bars) {
  const step = 40;
  const height = step * bars.length + 20;
  const full = (width - 76) / 1.15; // a bar of 115% still fits
  const marks = bars.flatMap((bar, number) => row(bar, step * number + 4, full, width));
  const line = svg("line", { class: "dense", x1: full, x2: full, y1: 18, y2: height - 16 });
  const words = bars.map(bar => `${bar.label}: ${bar.value === null ? "not yet" : `${percent(bar.value, 0)}${bar.said ? `, ${bar.said}` : ""}`}`);
  return picture(
    width,
    height,
    `Compared with the dense network. ${words.join("; ")}.`,
    hatch(),
    ...marks.filter(mark => mark.tagName !== "text"),
    line,
    ...marks.filter(mark => mark.tagName === "text"), // readable where the line runs
    text(full, height - 3, "dense: 100%", "middle tiny"),
  );
}

/** @param {Bar} bar @param {number} y @param {number} full @param {number} width */
function row(bar, y, full, width) {
  const label = text(0, y + 10, bar.label, "small");
  if (bar.value === null) return [label, text(0, y + 27, bar.measured ? "measuring ..." : "counting ...", "tiny")];
  const most = width - 64;
  const length = Math.min(full * bar.value, most);
  const marks = [
    svg("rect", { class: "track", x: 0, y: y + 15, width: round(full), height: 15, rx: 2 }),
    svg("rect", { class: bar.measured ? "measured" : "counted", x: 0, y: y + 15, width: Math.max(1, round(length)), height: 15, rx: 2 }),
  ];
  if (bar.quartiles) {
    const [low, high] = bar.quartiles.map(q => Math.min(full * q, most));
    marks.push(svg("path", { class: "whisker", d: `M${round(low)} ${y + 22.5}H${round(high)}M${round(low)} ${y + 18.5}v8M${round(high)} ${y + 18.5}v8` }));
  }
  const after = Math.max(length, bar.quartiles ? Math.min(full * bar.quartiles[1], most) : 0);
  marks.push(text(after + 6, y + 27, `${share(bar.value)}${full * bar.value > most ? " →" : ""}`, "small strong halo"));
  if (bar.said) marks.push(text(width, y + 10, bar.said, "end tiny"));
  return [label, ...marks];
}

function hatch() {
  const pattern = { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" };
  return svg(
    "defs",
    {},
    svg(
      "pattern",
      pattern,
      svg("rect", { class: "hatch-ground", width: 6, height: 6 }),
      svg("rect", { class: "hatch-line", width: 2, height: 6 }),
    ),
  );
}

/**
 * The bars of a setting.
 * @param {{ weights: number, sizes: any, times: any, dense: any, zeros: boolean, said: string }} known
 * @returns {Bar[]}
 */
export function barsOf({ weights, sizes, times, dense, said }) {
  /** @param {string} label @param {string} name */
  const size = (label, name) => ({
    label,
    measured: false,
    value: sizes ? sizes[name] / dense.saved : null,
    said: sizes ? kilobytes(sizes[name]) : "",
  });
  /** @param {string} label @param {string} name */
  const time = (label, name) => ({
    label,
    measured: true,
    value: times ? times[name].ratio[1] : null,
    quartiles: times ? [times[name].ratio[0], times[name].ratio[2]] : undefined,
    said: times ? duration(times[name].time[1]) : "",
  });
  return [
    { label: "weights, and multiplications, left", measured: false, value: weights },
    size("file, as saved", "saved"),
    size("file, zipped by this browser", "zipped"),
    size("file, zeros left out (CSR)", "sparse"),
    time("time, zeros multiplied too", "zeros"),
    time("time, zeros skipped (CSR)", "sparse"),
    time(`time, ${said} of the neurons removed`, "removed"),
  ];
}

// --------------------------------------------------------------------------- classes

/**
 * Accuracy of each class, with a tick where the dense network is.
 * @param {number} width
 * @param {string[]} classes
 * @param {(number | null)[]} now
 * @param {(number | null)[]} before
 */
export function classes(width, classes, now, before) {
  const step = 33;
  const left = 84;
  const full = width - left - 92;
  const marks = classes.flatMap((name, label) => {
    const y = step * label + 24;
    const value = now[label];
    const old = before[label];
    if (value === null || old === null) return [text(0, y + 12, name, "small")];
    const change = Math.round(100 * value) - Math.round(100 * old);
    const points = change > 0 ? `+${change}` : change < 0 ? `−${-change}` : "±0";
    return [
      text(0, y + 12, name, "small"),
      svg("rect", { class: "track", x: left, y, width: full, height: 18, rx: 2 }),
      svg("rect", { class: "counted", x: left, y, width: round(full * value), height: 18, rx: 2 }),
      svg("line", { class: "tick", x1: left + full * old, x2: left + full * old, y1: y - 3, y2: y + 21 }),
      text(left + full + 8, y + 12, `${percent(value, 0)} (${points})`, "small"),
    ];
  });
  const key = [
    svg("line", { class: "tick", x1: 2, x2: 2, y1: 2, y2: 13 }),
    text(8, 12, "dense network; in brackets: points lost or won", "tiny"),
  ];
  const words = classes.map((name, label) => `${name} ${now[label] === null ? "unknown" : percent(now[label] ?? 0, 0)}`);
  return picture(width, step * classes.length + 22, `Accuracy by class: ${words.join(", ")}.`, ...key, ...marks);
}

// --------------------------------------------------------------------------- answers

/**
 * How likely each class is, to both networks: the dense one outlined, the pruned one
 * filled.
 * @param {number} width
 * @param {string[]} classes
 * @param {number[]} before
 * @param {number[]} now
 */
export function answers(width, classes, before, now) {
  const step = 28;
  const left = 84;
  const full = width - left - 112;
  const marks = classes.flatMap((name, label) => {
    const y = step * label + 22;
    const best = now[label] === Math.max(...now);
    return [
      text(0, y + 13, name, best ? "small strong" : "small"),
      svg("rect", { class: "track", x: left, y, width: full, height: 18, rx: 2 }),
      svg("rect", { class: "outlined", x: left, y: y + 1, width: Math.max(1, round(full * before[label])), height: 7, rx: 1 }),
      svg("rect", { class: "filled", x: left, y: y + 10, width: Math.max(1, round(full * now[label])), height: 7, rx: 1 }),
      text(left + full + 8, y + 13, `${percent(before[label], 0)} → ${percent(now[label], 0)}`, best ? "small strong" : "small"),
    ];
  });
  const key = [
    svg("rect", { class: "outlined", x: left, y: 4, width: 20, height: 7, rx: 1 }),
    text(left + 25, 12, "dense", "tiny"),
    svg("rect", { class: "filled", x: left + 72, y: 4, width: 20, height: 7, rx: 1 }),
    text(left + 97, 12, "pruned", "tiny"),
  ];
  const words = classes.map((name, c) => `${name} ${percent(before[c], 0)}, ${percent(now[c], 0)}`);
  return picture(width, step * classes.length + 24, `How sure the dense and the pruned network are. ${words.join("; ")}.`, ...key, ...marks);
}
