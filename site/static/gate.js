/**
 * The guesses of a lesson, in front of the second part of its page.
 *
 * A slider has to stand somewhere, and that would be a hint: ours shows no handle until
 * it is touched, and a guess may as well be typed.
 *
 * @typedef {{question: string, low: number, high: number, unit: string,
 *            measured: string}} Asked
 * @typedef {{lesson: string, close: number, guesses: Asked[]}} Told
 */

import { change, read } from "./kept.js";
import { dataIn, element, numberIn, plain } from "./parts.js";

const INTRO =
  "The lab asks for these guesses before it measures. Commit yours, and this part" +
  " of the page opens. They are kept in this browser only.";

/**
 * Fill the gate of this page.
 * @param {Element} place
 */
export function openGate(place) {
  /** @type {Told} */
  const told = dataIn(place, "gate-data");
  const results = element("div", { class: "compared", role: "status" });
  const forms = told.guesses.map((asked, index) =>
    guessForm(told, asked, index, () => {
      if (told.guesses.every((each) => keptGuess(each) !== null)) open(told, results);
    }),
  );
  const skip = element("button", { type: "button", class: "skip" });
  skip.textContent = told.guesses.length ? "Open without a guess" : "Open this part";
  skip.addEventListener("click", () => {
    open(told, results);
    place.parentElement?.querySelector("h2")?.focus();
  });
  const intro = told.guesses.length ? [element("p", {}, INTRO)] : [];
  place.append(...intro, ...forms, skip, results);
  if (read().opened[told.lesson]) open(told, results);
  followLinks();
}

/** @param {Told} told @param {Element} results */
function open(told, results) {
  change((kept) => {
    kept.opened[told.lesson] = true;
  });
  document.documentElement.classList.add("opened");
  results.replaceChildren(...comparisons(told));
}

/** @param {Asked} asked @returns {number | null} the guess that is kept, if any. */
function keptGuess(asked) {
  const guess = read().guesses[asked.question]?.guess;
  const fits = typeof guess === "number" && guess >= asked.low && guess <= asked.high;
  return fits ? guess : null;
}

/** @param {number} value @param {string} unit */
function inWords(value, unit) {
  return `${plain(value)} ${unit}`.trim();
}

/**
 * One question, with a slider and a field for its guess.
 * @param {Told} told
 * @param {Asked} asked
 * @param {number} index
 * @param {() => void} committed
 */
function guessForm(told, asked, index, committed) {
  const id = `guess-${index + 1}`;
  const range = { min: asked.low, max: asked.high, step: stepOf(asked) };
  const field = element("input", {
    type: "text",
    inputmode: "decimal",
    id,
    autocomplete: "off",
    placeholder: `${asked.low} to ${asked.high}`,
    "aria-describedby": `${id}-said`,
  });
  const slider = element("input", {
    type: "range",
    ...range,
    "aria-label": `Slider: ${asked.question}`,
    "aria-valuetext": "no guess yet",
    class: "untouched",
  });
  const button = element("button", { type: "submit" }, "Commit my guess");
  const said = element("p", { id: `${id}-said`, class: "said", role: "status" });
  const unit = element("span", { class: "unit" }, asked.unit);
  const label = element("label", { for: id }, asked.question);
  const row = element("div", { class: "given" }, slider, field, unit, button);
  const form = element("form", { class: "guess", novalidate: true }, label, row, said);

  /** @param {number} value */
  const show = (value) => {
    slider.classList.remove("untouched");
    slider.value = String(value);
    slider.setAttribute("aria-valuetext", inWords(value, asked.unit));
  };
  slider.addEventListener("input", () => {
    field.value = slider.value;
    show(Number(slider.value));
  });
  // a click where the hidden handle stands moves nothing, and is a guess all the same
  slider.addEventListener("click", () => {
    field.value = slider.value;
    show(Number(slider.value));
  });
  field.addEventListener("input", () => {
    const value = numberIn(field.value, asked.unit);
    if (value >= asked.low && value <= asked.high) show(value);
  });
  /** @param {number} value */
  const lock = (value) => {
    field.value = String(value);
    show(value);
    for (const each of [field, slider, button]) each.disabled = true;
    button.textContent = "Committed";
  };
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const value = numberIn(field.value, asked.unit);
    if (!(value >= asked.low && value <= asked.high)) {
      said.textContent = `Give a number from ${asked.low} to ${asked.high}.`;
      field.focus();
      return;
    }
    said.textContent = change((kept) => {
      kept.guesses[asked.question] = { guess: value, lesson: told.lesson };
    });
    lock(value);
    committed();
    form.nextElementSibling?.querySelector?.("input:not(:disabled)")?.focus();
  });
  const kept = keptGuess(asked);
  if (kept !== null) lock(kept);
  return form;
}

/** A hundred steps or more, at a round number. @param {Asked} asked */
function stepOf(asked) {
  return 10 ** Math.floor(Math.log10((asked.high - asked.low) / 99));
}

/**
 * What was measured of each guess, and how far off it was, as the lab says it.
 * @param {Told} told
 */
function comparisons(told) {
  const lines = told.guesses.flatMap((asked) => {
    const said = compared(asked, told.close);
    return said ? [element("li", {}, `${asked.question} `, element("b", {}, said))] : [];
  });
  if (!lines.length) return [];
  const head = "Measured when the notebook of this site was built:";
  return [element("p", {}, head), element("ul", {}, ...lines)];
}

/** @param {Asked} asked @param {number} close */
function compared(asked, close) {
  if (!asked.measured) return "";
  const measured = Number.parseFloat(asked.measured.replaceAll(",", ""));
  const guess = keptGuess(asked);
  if (guess === null) return `${asked.measured}.`;
  const far = measured - guess;
  if (Math.abs(far) <= close * (asked.high - asked.low)) {
    return `${asked.measured}. Your guess, ${inWords(guess, asked.unit)}, was close.`;
  }
  const way = far > 0 ? "low" : "high";
  const off = `${plain(Math.abs(far))} too ${way}`;
  return `${asked.measured}. Your guess, ${inWords(guess, asked.unit)}, was ${off}.`;
}

/** A link to something that is shut leads to the gate. */
function followLinks() {
  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const shut = target && !target.getClientRects().length;
    if (shut) document.querySelector(".gate")?.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  if (location.hash) follow();
}
