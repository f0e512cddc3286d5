/** Numbers in words, and the few formulas behind them. */

/**
 * Half of the 95% interval of a share, for a sample of so many (Wilson 1927), as
 * utils/explorer/state.py has it.
 * @param {number} share
 * @param {number} n
 */
export function margin(share, n) {
  const z = 1.96;
  return (z * Math.sqrt((share * (1 - share)) / n + (z * z) / (4 * n * n))) / (1 + (z * z) / n);
}

/** @param {number} share @param {number} [digits] */
export function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)}%`;
}

/** In whole percent; small ones with a digit more. @param {number} part */
export function share(part) {
  return percent(part, part < 0.0995 ? 1 : 0);
}

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** @param {number} count */
export function grouped(count) {
  return GROUPED.format(count);
}

/** Bytes as kB: 1 kB is 1,000 bytes. @param {number} count */
export function kilobytes(count) {
  return `${grouped(count / 1000)} kB`;
}

/** Milliseconds as a time that fits. @param {number} time */
export function duration(time) {
  return time < 1 ? `${(1000 * time).toPrecision(2)} µs` : `${time.toPrecision(2)} ms`;
}

/**
 * How two lists of answers compare.
 * @param {Uint8Array} before
 * @param {Uint8Array} now
 * @param {Uint8Array} labels
 */
export function changes(before, now, labels) {
  const places = [];
  let lost = 0;
  let won = 0;
  for (let n = 0; n < Math.min(before.length, now.length); n++) {
    if (before[n] === now[n]) continue;
    places.push(n);
    if (before[n] === labels[n]) lost++;
    if (now[n] === labels[n]) won++;
  }
  return { places, lost, won };
}

/**
 * The share of right answers.
 * @param {Uint8Array} predicted
 * @param {Uint8Array} labels
 */
export function accuracy(predicted, labels) {
  return predicted.reduce((sum, answer, n) => sum + (answer === labels[n] ? 1 : 0), 0) / predicted.length;
}

/**
 * The same for each class; null where there is no picture of it.
 * @param {Uint8Array} predicted
 * @param {Uint8Array} labels
 * @param {number} classes
 */
export function byClass(predicted, labels, classes) {
  const right = new Array(classes).fill(0);
  const all = new Array(classes).fill(0);
  predicted.forEach((answer, n) => {
    all[labels[n]]++;
    if (answer === labels[n]) right[labels[n]]++;
  });
  return right.map((count, label) => (all[label] ? count / all[label] : null));
}

/**
 * From logits to chances.
 * @param {Float32Array | number[]} logits
 */
export function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, x => Math.exp(x - most));
  const total = powers.reduce((a, b) => a + b);
  return powers.map(power => power / total);
}
