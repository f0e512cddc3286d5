/**
 * Which of the weights the picture of the network shows: one of so many of each layer,
 * always the same ones, so that the picture thins out as the network does.
 */

const EVERY = [71, 23, 1]; // of the first, the second, the last layer

/**
 * @param {{ inputs: number, outputs: number }[]} layers
 */
export function sampled(layers) {
  /** @type {{ layer: number, from: number, to: number, place: number }[]} */
  const marks = [];
  let start = 0;
  layers.forEach(({ inputs, outputs }, layer) => {
    const every = EVERY[layer] ?? 1;
    for (let i = 0; i < Math.floor((inputs * outputs) / every); i++) {
      // somewhere among the next `every`, so that no pattern shows
      const place = i * every + (Math.imul(i + 1, 2654435761) >>> 0) % every;
      marks.push({ layer, from: place % inputs, to: Math.floor(place / inputs), place: start + place });
    }
    start += inputs * outputs;
  });
  /** @param {Uint8Array} mask @param {{ inputs: number, outputs: number }[]} all */
  const of = (mask, all) => seen(marks, mask, all);
  return { marks, of };
}

/** How many weights there are for one that is drawn, of each layer. */
export function shares() {
  return EVERY;
}

/**
 * What the picture has to know of a pruned network.
 * @param {{ place: number }[]} marks
 * @param {Uint8Array} mask  of all weights
 * @param {{ inputs: number, outputs: number }[]} layers
 */
function seen(marks, mask, layers) {
  const kept = Uint8Array.from(marks, ({ place }) => mask[place]);
  /** weights that are left of each unit: those that come in, and those that go out */
  const incoming = layers.map(({ outputs }) => new Uint16Array(outputs));
  const outgoing = layers.map(({ inputs }) => new Uint16Array(inputs));
  let i = 0;
  layers.forEach(({ inputs, outputs }, layer) => {
    const columns = outgoing[layer];
    for (let unit = 0; unit < outputs; unit++) {
      let kept = 0;
      for (let column = 0; column < inputs; column++, i++) {
        kept += mask[i]; // added, 0 or 1: no branch for the processor to guess
        columns[column] += mask[i];
      }
      incoming[layer][unit] = kept;
    }
  });
  return { kept, incoming, outgoing };
}
