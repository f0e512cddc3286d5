/**
 * Time, measured in this browser: the contestants take turns, each round in another
 * order, so that whatever else the machine does slows all of them alike. The same method
 * as utils/measure/timing.py.
 */

export const ROUNDS = 15;
const SHORTEST = 2; // milliseconds that a timed block lasts at least

export class Race {
  /** @param {Record<string, () => void>} contestants  the first is what others are compared with */
  constructor(contestants) {
    this.contestants = contestants;
    const names = Object.keys(contestants);
    /** @type {Record<string, number[]>} milliseconds of one call, by round */
    this.times = Object.fromEntries(names.map(name => [name, []]));
    this.shortest = Math.max(SHORTEST, 20 * grain());
    /** @type {Record<string, number>} */
    this.calls = {};
  }

  get rounds() {
    return Math.min(...Object.values(this.times).map(times => times.length));
  }

  /** One round, a block at a time. */
  *round() {
    const names = Object.keys(this.contestants);
    for (const place of turns(names.length, this.rounds)) {
      const name = names[place];
      this.calls[name] ??= this.#callsNeeded(this.contestants[name]);
      this.times[name].push(timed(this.contestants[name], this.calls[name]));
      yield;
    }
  }

  /** Median and quartiles of each: milliseconds, and the ratio to the first. */
  results() {
    const [first] = Object.keys(this.times);
    return Object.fromEntries(
      Object.entries(this.times).map(([name, times]) => {
        const ratios = times.map((time, round) => time / this.times[first][round]);
        return [name, { time: quartiles(times), ratio: quartiles(ratios) }];
      }),
    );
  }

  /** @param {() => void} work */
  #callsNeeded(work) {
    let calls = 1;
    timed(work, 3); // warm
    for (;;) {
      const total = timed(work, calls) * calls;
      if (total >= this.shortest) return calls;
      calls = Math.ceil(calls * Math.min(10, Math.max(1.2, (1.1 * this.shortest) / Math.max(total, 0.01))));
    }
  }
}

/**
 * In which order so many run in a round: over so many rounds, or twice as many for an odd
 * number, each comes equally often right after each other one (Williams 1949).
 * @param {number} count
 * @param {number} round
 */
export function turns(count, round) {
  const row = Array.from({ length: count }, (_, i) => {
    const step = i % 2 ? (i + 1) / 2 : -i / 2;
    return (((step + round) % count) + count) % count;
  });
  return count % 2 && Math.floor(round / count) % 2 ? row.reverse() : row;
}

/**
 * Milliseconds of one of so many calls.
 * @param {() => void} work
 * @param {number} calls
 */
function timed(work, calls) {
  const started = performance.now();
  for (let i = 0; i < calls; i++) work();
  return (performance.now() - started) / calls;
}

/** The step of this browser's clock in milliseconds: some are coarse on purpose. */
function grain() {
  const started = performance.now();
  let now = started;
  while (now === started) now = performance.now();
  return now - started;
}

/**
 * Lower quartile, median, upper quartile, between the values where they fall between.
 * @param {number[]} values
 */
export function quartiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return [0.25, 0.5, 0.75].map(part => {
    const place = part * (sorted.length - 1);
    const low = Math.floor(place);
    const high = Math.ceil(place);
    return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
  });
}
