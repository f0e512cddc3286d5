/** What the scripts of the lessons' pages begin with. */

import { openGate } from "./gate.js";
import { openLive } from "./live.js";
import { openQuiz } from "./quiz.js";

for (const place of document.querySelectorAll(".gate")) openGate(place);
for (const place of document.querySelectorAll(".quiz")) openQuiz(place);
for (const place of document.querySelectorAll("p.live")) {
  openLive(/** @type {HTMLElement} */ (place));
}

// the pages' policy lets no attribute run anything
for (const button of document.querySelectorAll("button[data-prints]")) {
  button.addEventListener("click", () => print());
}
