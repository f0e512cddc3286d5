/** What is said and shown where the page cannot do its work. */

// a function that returns a vector: only browsers with SIMD take it for valid
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
  253, 98, 11,
]);

/** Why this browser cannot prune; empty if it can. */
export function whyNot() {
  if (typeof WebAssembly !== "object") return "This browser has no WebAssembly.";
  if (!WebAssembly.validate(SIMD)) return "This browser's WebAssembly has no SIMD.";
  if (typeof Worker !== "function") return "This browser has no workers.";
  if (typeof DecompressionStream !== "function") return "This browser cannot unpack files.";
  return "";
}

/**
 * Say what is wrong, and show the still pictures that stand in the page for where there is
 * no JavaScript.
 * @param {string} reason
 */
export function trouble(reason) {
  const box = /** @type {HTMLElement} */ (document.getElementById("trouble"));
  const exhibit = /** @type {HTMLElement} */ (document.getElementById("exhibit"));
  if (!box.hidden) return;
  exhibit.hidden = true;
  const words = document.createElement("p");
  const strong = document.createElement("strong");
  strong.textContent = "The network cannot be pruned here.";
  words.append(strong, ` ${reason} What the page shows, you see here as pictures, drawn by the course's own notebook.`);
  const still = document.createElement("template");
  still.innerHTML = document.querySelector("noscript")?.textContent ?? "";
  box.append(words, ...still.content.querySelectorAll("figure"));
  box.hidden = false;
}
