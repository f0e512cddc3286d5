/**
 * Where a page shows the picture of a panel that the site can run: a button that puts
 * the live one in its place. Without WebAssembly the picture stays.
 */

import { element } from "./parts.js";

/** @param {HTMLElement} place the paragraph below the picture, with a link in it */
export function openLive(place) {
  if (typeof WebAssembly !== "object") return;
  const link = place.querySelector("a");
  const picture = /** @type {HTMLElement | null} */ (place.previousElementSibling);
  if (!link) return;
  const button = element("button", { type: "button" }, "Run it here");
  button.addEventListener("click", () => {
    const frame = element("iframe", { src: link.href, title: "The panel, live" });
    frame.addEventListener("load", () => fit(frame));
    if (picture) picture.hidden = true;
    button.replaceWith(frame);
    frame.focus();
  });
  place.prepend(button, " ");
}

/**
 * Only the exhibit of the page in a frame is shown, as high as it is.
 * @param {any} frame
 */
function fit(frame) {
  const inside = frame.contentDocument;
  const style = element("link", {
    rel: "stylesheet",
    href: new URL("live.css", import.meta.url),
  });
  inside.head.append(style);
  const height = () => {
    frame.style.height = `${inside.querySelector("main").scrollHeight + 24}px`;
  };
  new ResizeObserver(height).observe(inside.querySelector("main"));
}
