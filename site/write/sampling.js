// @ts-check
/** Noise, as `utils.generation.noise` draws it, and the piece that wins with it. */

/**
 * PyTorch's random numbers on a processor: the Mersenne Twister (Matsumoto & Nishimura
 * 1998), 32 bits at a time.
 */
export class Random {
  /** @param {number} seed a whole number from 0 to 2**32 - 1 */
  constructor(seed) {
    const state = new Uint32Array(624);
    state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const last = state[i - 1] ^ (state[i - 1] >>> 30);
      state[i] = Math.imul(1812433253, last) + i;
    }
    this.state = state;
    this.used = 624;
  }

  /** The next 32 bits, as a whole number that is not negative. */
  next() {
    if (this.used === 624) this.#turn();
    let bits = this.state[this.used++];
    bits ^= bits >>> 11;
    bits ^= (bits << 7) & 0x9d2c5680;
    bits ^= (bits << 15) & 0xefc60000;
    return (bits ^ (bits >>> 18)) >>> 0;
  }

  /** The next 24 bits: `torch.rand` in float32 is that over 2**24. */
  next24() {
    return this.next() & 0xffffff;
  }

  /** As `torch.rand` in float64: 53 bits over 2**53. */
  nextDouble() {
    const high = this.next() & 0x1fffff;
    return (high * 2 ** 32 + this.next()) / 2 ** 53;
  }

  #turn() {
    const { state } = this;
    for (let i = 0; i < 624; i++) {
      const mixed = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      const odd = mixed & 1 ? 0x9908b0df : 0;
      state[i] = state[(i + 397) % 624] ^ (mixed >>> 1) ^ odd;
    }
    this.used = 0;
  }
}

/**
 * What is added to the logits, `[count, pieces]`: Gumbel noise times the temperature.
 * @param {number} count
 * @param {number} pieces
 * @param {number} temperature
 * @param {number} seed
 */
export function noise(count, pieces, temperature, seed) {
  const random = new Random(seed);
  const added = new Float32Array(count * pieces);
  for (let i = 0; i < added.length; i++) {
    const uniform = Math.max(random.nextDouble(), 1e-300);
    added[i] = -Math.log(-Math.log(uniform)) * temperature;
  }
  return added;
}

/**
 * The piece whose logit plus noise is largest; of equal ones the first.
 * @param {Float32Array} logits `[pieces]`
 * @param {Float32Array} added `[pieces]`
 */
export function chosen(logits, added) {
  let best = 0;
  let most = -Infinity;
  for (let i = 0; i < logits.length; i++) {
    const value = Math.fround(logits[i] + added[i]);
    if (value > most) {
      most = value;
      best = i;
    }
  }
  return best;
}
