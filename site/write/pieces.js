// @ts-check
/** From text to the numbers of its pieces, and back (`utils.text.Vocabulary`). */

export class Vocabulary {
  /**
   * @param {string[]} pieces
   * @param {string} word what no piece goes beyond: a regular expression
   */
  constructor(pieces, word) {
    this.pieces = pieces;
    this.word = new RegExp(word, "gu");
    this.number = new Map(pieces.map((piece, number) => [piece, number]));
  }

  /**
   * The numbers of a text whose signs are all known.
   * @param {string} text
   * @returns {number[]}
   */
  encode(text) {
    return (text.match(this.word) ?? []).flatMap((word) => this.#split(word));
  }

  /**
   * @param {Iterable<number>} numbers
   * @returns {string}
   */
  decode(numbers) {
    return Array.from(numbers, (number) => this.pieces[number]).join("");
  }

  /**
   * The pieces of a word: of its neighbours those are joined first whose joining was
   * learned first.
   * @param {string} word
   * @returns {number[]}
   */
  #split(word) {
    let parts = [...word];
    const known = (/** @type {string} */ piece) => this.number.get(piece) ?? Infinity;
    while (parts.length > 1) {
      let [a, b] = parts;
      for (let i = 1; i + 1 < parts.length; i++)
        if (known(parts[i] + parts[i + 1]) < known(a + b)) [a, b] = parts.slice(i, i + 2);
      if (known(a + b) === Infinity) break;
      parts = joined(parts, a, b);
    }
    return parts.map(known);
  }

  /**
   * A prompt as the network can read it, its pieces, and what was changed in it
   * (`TextMemory.prompt`).
   * @param {string} given
   * @param {number} room the most pieces of it that are read
   * @returns {{prompt: string, pieces: number[], remark: string}}
   */
  read(given, room) {
    const remarks = [];
    let prompt = given.replaceAll("\r\n", "\n");
    const strange = [...new Set(prompt)].filter((sign) => !this.number.has(sign));
    if (strange.length) {
      prompt = [...prompt].filter((sign) => !strange.includes(sign)).join("");
      strange.sort((a, b) => Number(a.codePointAt(0)) - Number(b.codePointAt(0)));
      const listed = strange.slice(0, 5).map((sign) => `'${sign}'`);
      remarks.push(
        `Left out of the prompt, as the novels do not have it: ${listed.join(", ")}.`,
      );
    }
    if (prompt.endsWith(" ")) {
      prompt = prompt.replace(/ +$/, "");
      remarks.push(
        "The space at the end of the prompt was left out: it belongs to the next piece.",
      );
    }
    if (!prompt) {
      prompt = "\n";
      remarks.push("The prompt is empty: a paragraph begins.");
    }
    let pieces = this.encode(prompt);
    if (pieces.length > room) {
      pieces = pieces.slice(-room);
      prompt = this.decode(pieces);
      remarks.push(`Only the last ${room} pieces of the prompt are read.`);
    }
    return { prompt, pieces, remark: remarks.join(" ") };
  }
}

/**
 * The parts with these two neighbours joined wherever they stand.
 * @param {string[]} parts
 * @param {string} a
 * @param {string} b
 */
function joined(parts, a, b) {
  const result = [];
  for (let i = 0; i < parts.length; i++)
    if (parts[i] === a && parts[i + 1] === b) result.push(a + parts[++i]);
    else result.push(parts[i]);
  return result;
}
