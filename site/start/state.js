/**
 * What the visitor has chosen, and that a setting is a link.
 *
 * @typedef {object} Setting
 * @property {string} kind  "weights" or "channels", as facts.json lists them
 * @property {string} score
 * @property {string} scope
 * @property {number} sparsity  one of the kind's stops
 *
 * @typedef {object} Kind  how the explorer calls a kind of pruning, and what it offers
 * @property {string} label
 * @property {string} axis
 * @property {boolean} zeros  whether it leaves zeros in tensors of the old size
 * @property {string[]} scopes
 * @property {string[]} scores
 * @property {string[]} meaning  of each score, as its docstring begins
 * @property {number[]} stops
 * @property {string[]} said  the stops in words
 * @property {string[]} ticks
 */

/**
 * A setting as one text, by which what is known of it is kept.
 * @param {Setting} setting
 */
export function keyOf({ kind, score, scope, sparsity }) {
  return `${kind} ${score} ${scope} ${sparsity}`;
}

/**
 * The end of the address for a setting, as utils/explorer/links.py writes it.
 * @param {Setting} setting
 * @param {string} network
 * @param {number} picture
 */
export function toLink(setting, network, picture) {
  const { sparsity, score, scope, kind } = setting;
  const stop = Number.isInteger(sparsity) ? sparsity.toFixed(1) : String(sparsity);
  const pairs = { sparsity: stop, score, scope, kind, network, picture: String(picture) };
  return `#${Object.entries(pairs).map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&")}`;
}

/**
 * The setting of a link, and the picture that it picks; what it leaves out, or what is
 * not offered, is as at the start.
 * @param {string} link
 * @param {{ kinds: Record<string, Kind>, start: Setting, pictures: number }} facts
 * @returns {{ setting: Setting, picture: number }}
 */
export function fromLink(link, facts) {
  const said = new URLSearchParams(link.replace(/^#/, ""));
  const kind = sameOrFirst(said.get("kind"), [facts.start.kind, ...Object.keys(facts.kinds)]);
  const stop = said.has("sparsity") ? Number(said.get("sparsity")) : facts.start.sparsity;
  const picture = Number(said.get("picture"));
  return {
    setting: offered(
      {
        kind,
        score: said.get("score") ?? facts.start.score,
        scope: said.get("scope") ?? facts.start.scope,
        sparsity: Number.isFinite(stop) ? stop : facts.start.sparsity,
      },
      facts.kinds[kind],
    ),
    picture: Number.isInteger(picture) && picture >= 0 && picture < facts.pictures ? picture : 0,
  };
}

/**
 * The setting with what its kind offers: the same where it can be, else the first; the
 * nearest stop.
 * @param {Setting} wanted
 * @param {Kind} kind
 * @returns {Setting}
 */
export function offered(wanted, kind) {
  return {
    kind: wanted.kind,
    score: sameOrFirst(wanted.score, kind.scores),
    scope: sameOrFirst(wanted.scope, kind.scopes),
    sparsity: nearest(kind.stops, wanted.sparsity),
  };
}

/**
 * The same question of another kind of pruning: the score that stands at the same place,
 * the same scope, the same sparsity.
 * @param {Setting} setting
 * @param {Record<string, Kind>} kinds
 * @param {string} kind
 */
export function ofKind(setting, kinds, kind) {
  const place = kinds[setting.kind].scores.indexOf(setting.score);
  return offered({ ...setting, kind, score: kinds[kind].scores[place] }, kinds[kind]);
}

/**
 * @param {number[]} stops
 * @param {number} wanted
 */
function nearest(stops, wanted) {
  return stops.reduce((best, stop) =>
    Math.abs(stop - wanted) < Math.abs(best - wanted) ? stop : best,
  );
}

/**
 * @param {string | null} name
 * @param {string[]} known
 */
function sameOrFirst(name, known) {
  return name !== null && known.includes(name) ? name : known[0];
}
