/**
 * The compiled arithmetic (kernels.wat) and its memory.
 *
 * @typedef {object} Exports  the functions of kernels.wat; arguments are addresses in
 *   bytes and counts of numbers
 * @property {WebAssembly.Memory} memory
 * @property {(...numbers: number[]) => void} dense
 * @property {(...numbers: number[]) => void} sparse
 * @property {(...numbers: number[]) => void} sparse_block
 * @property {(...numbers: number[]) => void} add_product
 * @property {(...numbers: number[]) => void} step
 */

const PAGE = 65536; // bytes by which a WebAssembly memory grows

export class Kernels {
  /** @param {Exports} exports */
  constructor(exports) {
    this.run = exports;
    this.next = 16; // the first free byte
  }

  /**
   * Compile the kernels. Rejects where the browser has no WebAssembly or no SIMD.
   * @param {BufferSource} content  of kernels.wasm
   */
  static async of(content) {
    const { instance } = await WebAssembly.instantiate(content);
    return new Kernels(/** @type {any} */ (instance.exports));
  }

  /**
   * Room for so many numbers of 4 bytes, for good.
   * @param {number} count
   * @returns {number} its address
   */
  reserve(count) {
    const address = this.next;
    this.next += Math.ceil(count / 4) * 16;
    const missing = this.next - this.run.memory.buffer.byteLength;
    if (missing > 0) this.run.memory.grow(Math.ceil(missing / PAGE));
    return address;
  }

  /**
   * The float32 numbers at an address, as they are until more room is reserved.
   * @param {number} address
   * @param {number} count
   */
  floats(address, count) {
    return new Float32Array(this.run.memory.buffer, address, count);
  }

  /**
   * The same of int32.
   * @param {number} address
   * @param {number} count
   */
  integers(address, count) {
    return new Int32Array(this.run.memory.buffer, address, count);
  }
}
