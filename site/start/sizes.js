/**
 * Bytes of a network's file, counted as utils/measure counts them: the safetensors file
 * is built, byte for byte, and its length taken.
 *
 * @typedef {import("./units.js").Layer} Layer
 * @typedef {{ name: string, type: string, shape: number[], bytes: Uint8Array }} Tensor
 */

/**
 * A safetensors file: the length of a description, the description, the numbers. Tensors
 * stand in the order of their types, then of their names, as the library sorts them.
 * @param {Tensor[]} tensors
 */
export function safetensors(tensors) {
  /** @type {Record<string, number>} */
  const order = { F32: 0, I32: 1 };
  const sorted = [...tensors].sort(
    (a, b) => order[a.type] - order[b.type] || (a.name < b.name ? -1 : 1),
  );
  let end = 0;
  const described = sorted.map(({ name, type, shape, bytes }) => {
    const about = { dtype: type, shape, data_offsets: [end, (end += bytes.length)] };
    return `${JSON.stringify(name)}:${JSON.stringify(about)}`;
  });
  const bare = new TextEncoder().encode(`{${described.join(",")}}`);
  const head = Math.ceil(bare.length / 8) * 8; // padded with spaces
  const file = new Uint8Array(8 + head + end).fill(32, 8, 8 + head);
  new DataView(file.buffer).setBigUint64(0, BigInt(head), true);
  file.set(bare, 8);
  let at = 8 + head;
  for (const { bytes } of sorted) {
    file.set(bytes, at);
    at += bytes.length;
  }
  return file;
}

/**
 * The network as it is saved: every number of it.
 * @param {Layer[]} layers
 * @param {{ weight: string, bias: string }[]} names
 */
export function saved(layers, names) {
  return safetensors(
    layers.flatMap(({ inputs, outputs, weight, bias }, number) => [
      tensor(names[number].weight, [outputs, inputs], weight),
      tensor(names[number].bias, [outputs], bias),
    ]),
  );
}

/**
 * The same with each weight in compressed sparse rows: values, column numbers, row
 * starts.
 * @param {Layer[]} layers
 * @param {{ weight: string, bias: string }[]} names
 */
export function savedSparse(layers, names) {
  return safetensors(
    layers.flatMap((layer, number) => {
      const { weight, bias } = names[number];
      const { values, columns, rows } = sparseRows(layer);
      return [
        tensor(bias, [layer.outputs], layer.bias),
        tensor(`${weight}.values`, [values.length], values),
        tensor(`${weight}.columns`, [columns.length], columns),
        tensor(`${weight}.rows`, [rows.length], rows),
      ];
    }),
  );
}

/** @param {Layer} layer */
function sparseRows({ inputs, outputs, weight }) {
  const rows = new Int32Array(outputs + 1);
  const columns = [];
  for (let i = 0; i < weight.length; i++)
    if (weight[i] !== 0) {
      columns.push(i % inputs);
      rows[Math.floor(i / inputs) + 1]++;
    }
  for (let unit = 0; unit < outputs; unit++) rows[unit + 1] += rows[unit];
  return { values: weight.filter(x => x !== 0), columns: Int32Array.from(columns), rows };
}

/**
 * @param {string} name
 * @param {number[]} shape
 * @param {Float32Array | Int32Array} numbers
 * @returns {Tensor}
 */
function tensor(name, shape, numbers) {
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  return { name, type: numbers instanceof Int32Array ? "I32" : "F32", shape, bytes };
}

/**
 * Bytes after this browser's own zlib. Browsers have different ones, whose results differ
 * by a percent or two, among themselves and from Python's.
 * @param {Uint8Array<ArrayBuffer>} file
 */
export async function zipped(file) {
  const stream = new Blob([file]).stream().pipeThrough(new CompressionStream("deflate"));
  return (await new Response(stream).arrayBuffer()).byteLength;
}
