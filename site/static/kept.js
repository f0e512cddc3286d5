/**
 * What is kept of a reader, in this browser alone: guesses, first tries of quizzes, and
 * which second parts are open.
 *
 * @typedef {{guess: number, lesson: string}} KeptGuess
 * @typedef {{answer: string | number, ticked?: string[]}} KeptAnswer
 * @typedef {{guesses: Object<string, KeptGuess>,
 *            quiz: Object<string, Object<string, KeptAnswer>>,
 *            opened: Object<string, boolean>}} Kept
 */

const KEY = "pruning-course";

/** @type {string} What stands here while this page is open, where nothing can be kept. */
let memory = "{}";

/** @returns {Kept} all that is kept; what is damaged counts as nothing. */
export function read() {
  /** @type {Record<string, any> & Kept} */
  const empty = { guesses: {}, quiz: {}, opened: {} };
  try {
    const found = JSON.parse(stored());
    for (const name of Object.keys(empty)) {
      if (found && typeof found[name] === "object" && found[name]) {
        empty[name] = found[name];
      }
    }
  } catch {
    // damaged
  }
  return empty;
}

function stored() {
  try {
    return localStorage.getItem(KEY) ?? memory;
  } catch {
    return memory;
  }
}

/**
 * Change what is kept. It is read anew first: another tab may have written.
 * @param {(kept: Kept) => void} change
 * @returns {string} a sentence where the browser keeps nothing, else "".
 */
export function change(change) {
  const kept = read();
  change(kept);
  memory = JSON.stringify(kept);
  try {
    localStorage.setItem(KEY, memory);
    return "";
  } catch {
    return "This browser keeps nothing: it is forgotten when the page is closed.";
  }
}
