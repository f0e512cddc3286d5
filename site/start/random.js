/**
 * Random numbers as PyTorch draws them, so that the score "random" ranks the same weights
 * first here and there: the Mersenne Twister (Matsumoto & Nishimura 1998). The page that
 * writes has a copy, made when the site is built.
 */

const SIZE = 624;
const SHIFT = 397;

export class Random {
  /** @param {number} seed */
  constructor(seed) {
    this.state = new Uint32Array(SIZE);
    this.state[0] = seed;
    for (let i = 1; i < SIZE; i++) {
      const last = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, last) + i;
    }
    this.place = SIZE;
  }

  /** The next 32 bits. */
  bits() {
    if (this.place === SIZE) this.#renew();
    let y = this.state[this.place++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** A float32 from 0 to below 1: PyTorch takes the lowest 24 bits. */
  number() {
    return (this.bits() & 0xffffff) / 0x1000000;
  }

  /** A float64 from 0 to below 1: PyTorch takes 53 bits. */
  double() {
    const high = this.bits() & 0x1fffff;
    return (high * 2 ** 32 + this.bits()) / 2 ** 53;
  }

  /**
   * The numbers 0 to n - 1 in another order (Fisher & Yates).
   * @param {number} n
   */
  order(n) {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const other = Math.floor(this.number() * (i + 1));
      [order[i], order[other]] = [order[other], order[i]];
    }
    return order;
  }

  #renew() {
    const s = this.state;
    for (let i = 0; i < SIZE; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % SIZE] & 0x7fffffff);
      s[i] = s[(i + SHIFT) % SIZE] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.place = 0;
  }
}
