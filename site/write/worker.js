// @ts-check
/** The thread that prunes and writes: only the newest wish counts. It is told `{id,
 * controls}`, and answers with parts of the state under that id. */
import { Trouble } from "./load.js";
import { Memory } from "./memory.js";

const REST = 250; // ms without a new wish, before what takes longer begins
const FRAME = 15; // ms of work between two answers

/** @type {{id: number, controls: import("./state.js").Controls} | null} */
let wanted = null;
let running = false;
let wake = () => {};
/** @type {Memory} */
let memory;

self.onmessage = ({ data }) => {
  wanted = data;
  wake();
  if (!running) run();
};

const breath = new MessageChannel();

/** Let a newer wish in. */
function breathe() {
  return new Promise((done) => {
    breath.port1.onmessage = done;
    breath.port2.postMessage(0);
  });
}

/** Wait, but not longer than until the next wish. */
function rest() {
  return new Promise((done) => {
    wake = () => done(undefined);
    setTimeout(done, REST);
  });
}

async function run() {
  running = true;
  while (wanted) {
    const { id, controls } = wanted;
    wanted = null;
    try {
      if (memory.lacks(controls)) postMessage({ id, fetching: controls.score });
      await memory.prepare(controls);
      await fulfil(id, controls);
    } catch (error) {
      postMessage({ id, trouble: said(error) });
    }
  }
  running = false;
}

/**
 * @param {number} id
 * @param {import("./state.js").Controls} controls
 */
async function fulfil(id, controls) {
  let last = performance.now();
  let state = {};
  for (const part of memory.look(controls)) {
    Object.assign(state, part);
    const settled = part?.settled;
    if (settled || part?.finished || performance.now() - last > FRAME) {
      postMessage({ id, state });
      state = {};
      await (settled ? rest() : breathe());
      last = performance.now();
    }
    if (wanted) return;
  }
}

/** @param {unknown} error */
function said(error) {
  return error instanceof Trouble ? error.message : `The page's thread failed: ${error}.`;
}

try {
  memory = await Memory.load("./");
  postMessage({ facts: memory.facts });
} catch (error) {
  postMessage({ failed: said(error) });
}
