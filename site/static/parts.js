/** Small helpers for pages that are made by script. */

/**
 * An element with attributes and children; text is text, never HTML.
 * @param {string} name
 * @param {Object<string, string | boolean | number | URL>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false) made.setAttribute(key, String(value));
  }
  made.append(...children);
  return made;
}

/**
 * The data that stands in a page for a script.
 * @param {Element} place
 * @param {string} name of its class
 * @returns {any}
 */
export function dataIn(place, name) {
  return JSON.parse(place.querySelector(`script.${name}`)?.textContent ?? "null");
}

/**
 * The number that somebody typed, perhaps with its unit; NaN when it is none.
 * @param {string} typed
 * @param {string} unit
 */
export function numberIn(typed, unit = "") {
  let text = typed.trim();
  if (unit && text.endsWith(unit)) text = text.slice(0, -unit.length);
  text = text.replace(/[ %]+$/, "").replace(",", ".");
  return text === "" ? NaN : Number(text);
}

/** A number as the labs tell it: three digits, thousands written out. @param {number} value */
export function plain(value) {
  return Math.abs(value) >= 999.5
    ? Math.round(value).toLocaleString("en-US")
    : String(Number(value.toPrecision(3)));
}

/**
 * A text with `code` in it, as nodes.
 * @param {string} text
 * @returns {(Node | string)[]}
 */
export function rich(text) {
  return text
    .split("`")
    .map((part, index) => (index % 2 ? element("code", {}, part) : part));
}
