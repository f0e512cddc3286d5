/** Elements of a page, made in one line. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An SVG element.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(Node | string)} children
 */
export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * An HTML element.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(Node | string)} children
 */
export function html(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * A picture of so many pixels, which says in words what it shows.
 * @param {number} width
 * @param {number} height
 * @param {string} words
 * @param {...Node} marks
 */
export function picture(width, height, words, ...marks) {
  const size = { width, height, viewBox: `0 0 ${width} ${height}` };
  return svg("svg", { ...size, role: "img", "aria-label": words }, ...marks);
}

/**
 * @param {number} x
 * @param {number} y
 * @param {string} content
 * @param {string} [classes]
 */
export function text(x, y, content, classes = "") {
  return svg("text", { x: round(x), y: round(y), class: classes }, content);
}

/** Coordinates need no more than a tenth of a pixel. @param {number} x */
export function round(x) {
  return Math.round(10 * x) / 10;
}

/**
 * @template {Element} T
 * @param {T} element
 * @param {Record<string, string | number>} attributes
 * @param {(Node | string)[]} children
 */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes))
    if (value !== "") element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}
