/** The beginning: the worker is started, and the page when the network is there. */

import { Page } from "./page.js";
import { at } from "./panel.js";
import { trouble, whyNot } from "./trouble.js";

const NO_WORKER = "The worker that computes could not be started.";

function begin() {
  const reason = whyNot();
  if (reason) return trouble(reason);
  at("exhibit").hidden = false;
  /** @type {Page} */
  let page;
  try {
    const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onerror = () => trouble(NO_WORKER);
    worker.onmessage = ({ data }) => {
      if (data.type === "failed" && !page) trouble(data.words);
      else if (data.type === "ready") page = new Page(worker, data);
      else page.hear(data);
    };
  } catch {
    trouble(NO_WORKER);
  }
}

begin();
