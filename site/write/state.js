// @ts-check
/** What the reader has chosen, and the address that holds it: a setting is a link. */

/**
 * @typedef {{sparsity: number, score: string, scope: string, prompt: string,
 *   draw: number, off: string[]}} Controls
 *   draw: the number of the noise. off: parts that are switched off: "0.2" is head 2 of
 *   block 0, "0.attention" all its heads, "0.mlp" its MLP.
 */

/**
 * What the page opens with.
 * @param {any} facts
 * @returns {Controls}
 */
export function start(facts) {
  return { ...facts.start, off: [] };
}

/**
 * The controls nearest to these that the page offers.
 * @param {any} facts
 * @param {Controls} wanted
 * @returns {Controls}
 */
export function offered(facts, wanted) {
  const first = start(facts);
  const score = wanted.score in facts.scores ? wanted.score : first.score;
  const { scopes } = facts.scores[score];
  const scope = scopes.includes(wanted.scope) ? wanted.scope : scopes[0];
  const near = (/** @type {number} */ stop) => Math.abs(stop - wanted.sparsity);
  const sparsity = facts.scopes[scope].stops.reduce(
    (/** @type {number} */ a, /** @type {number} */ b) => (near(b) < near(a) ? b : a),
  );
  const draw =
    Number.isInteger(wanted.draw) && wanted.draw >= 0 ? wanted.draw % 2 ** 32 : 0;
  const off = named(facts, heads(facts, wanted.off));
  return { ...wanted, score, scope, sparsity, draw, off };
}

/**
 * The link's part behind the #.
 * @param {Controls} controls
 */
export function toLink({ sparsity, score, scope, prompt, draw, off }) {
  const found = new URLSearchParams({ sparsity: `${sparsity}`, score, scope, prompt });
  if (draw) found.set("draw", `${draw}`);
  if (off.length) found.set("off", off.join(","));
  return `#${found}`;
}

/**
 * @param {any} facts
 * @param {string} link the part behind the #, or nothing
 * @returns {Controls}
 */
export function fromLink(facts, link) {
  const given = new URLSearchParams(link.replace(/^#/, ""));
  const first = start(facts);
  return offered(facts, {
    sparsity: Number(given.get("sparsity") ?? first.sparsity) || 0,
    score: given.get("score") ?? first.score,
    scope: given.get("scope") ?? first.scope,
    prompt: given.get("prompt") ?? first.prompt,
    draw: Number(given.get("draw")),
    off: (given.get("off") ?? "").split(",").filter(Boolean),
  });
}

/**
 * Single heads ("0.2") and MLPs ("0.mlp") of names among which are whole attentions; what
 * the network does not have is left out.
 * @param {any} facts
 * @param {string[]} names
 * @returns {Set<string>}
 */
export function heads({ network }, names) {
  const found = new Set();
  for (let block = 0; block < network.blocks; block++) {
    for (let head = 0; head < network.heads; head++)
      if (names.includes(`${block}.${head}`) || names.includes(`${block}.attention`))
        found.add(`${block}.${head}`);
    if (names.includes(`${block}.mlp`)) found.add(`${block}.mlp`);
  }
  return found;
}

/**
 * The shortest names of single heads and MLPs: "0.attention" for all heads of a block.
 * @param {any} facts
 * @param {Set<string>} single
 * @returns {string[]}
 */
export function named({ network }, single) {
  const found = [];
  for (let block = 0; block < network.blocks; block++) {
    const own = [...single].filter((name) => name.startsWith(`${block}.`));
    const gone = own.filter((name) => !name.endsWith("mlp"));
    found.push(...(gone.length === network.heads ? [`${block}.attention`] : gone));
    found.push(...own.filter((name) => name.endsWith("mlp")));
  }
  return found;
}

/**
 * What is there of each block.
 * @param {any} facts
 * @param {string[]} off
 * @returns {import("./network.js").Parts[]}
 */
export function partsOf(facts, off) {
  const gone = heads(facts, off);
  const { blocks, heads: count } = facts.network;
  return Array.from({ length: blocks }, (_, block) => ({
    heads: Array.from({ length: count }, (_, head) => head).filter(
      (head) => !gone.has(`${block}.${head}`),
    ),
    mlp: !gone.has(`${block}.mlp`),
  }));
}
