/**
 * The quiz of a lesson: each answer is committed, kept, and only then explained. The
 * first try stays.
 *
 * @typedef {{answer: string, feedback: string, right?: boolean}} Choice
 * @typedef {object} Question  as quiz.json has it: what its kind needs is there
 * @property {string} question
 * @property {"choice" | "number" | "sentence"} kind
 * @property {string} [about]  an earlier lesson
 * @property {Choice[]} answers
 * @property {{within: number, unit?: string}} number
 * @property {number} measured
 * @property {string} feedback
 * @property {string} model
 * @property {string[]} rubric
 *
 * @typedef {{lesson: string, questions: Question[]}} Told
 * @typedef {string | number} Answer
 * @typedef {object} Fields
 * @property {Node[]} nodes
 * @property {() => {answer?: Answer, problem?: string}} given
 * @property {(answer: any) => void} close  with an answer of its own
 */

import { change, read } from "./kept.js";
import { dataIn, element, numberIn, plain, rich } from "./parts.js";

const INTRO =
  "Answer, commit, then read. The first try is kept, in this browser only.";

/**
 * Put the forms of a quiz in the place of its plain text.
 * @param {Element} place
 */
export function openQuiz(place) {
  /** @type {Told} */
  const told = dataIn(place, "quiz-data");
  const score = element("p", { class: "score", role: "status" });
  const count = () => {
    score.textContent = scored(told);
  };
  const forms = told.questions.map((asked, index) =>
    question(told.lesson, asked, index + 1, count),
  );
  place.querySelector(".quiz-plain")?.replaceWith(
    element("p", {}, INTRO), ...forms, score,
  );
  count();
}

/** How many first tries were right, of those that can be told. @param {Told} told */
function scored(told) {
  const judged = told.questions.filter((asked) => asked.kind !== "sentence");
  const tries = judged.map((asked) => keptAnswer(told.lesson, asked));
  const given = tries.filter((answer) => answer !== null).length;
  if (!given) return "";
  const right = judged.filter((asked, i) => tries[i] !== null && isRight(asked, tries[i] ?? ""));
  return `First tries right: ${right.length} of ${given} answered.`;
}

/**
 * @param {string} lesson
 * @param {Question} asked
 * @returns {Answer | null}
 */
function keptAnswer(lesson, asked) {
  const answer = read().quiz[lesson]?.[asked.question]?.answer;
  if (asked.kind === "number") return typeof answer === "number" ? answer : null;
  if (asked.kind === "sentence") return typeof answer === "string" ? answer : null;
  const found = asked.answers.find((each) => each.answer === answer);
  return found?.answer ?? null;
}

/** @param {Question} asked @param {Answer} answer */
function isRight(asked, answer) {
  if (asked.kind === "choice") {
    return asked.answers.find((each) => each.right)?.answer === answer;
  }
  const { measured, number } = asked;
  // a little more, for what is rounded
  const off = Math.abs(Number(answer) - measured);
  return off <= number.within * Math.abs(measured) * (1 + 1e-9);
}

/** @type {Record<Question["kind"], (asked: Question, name: string) => Fields>} */
const FIELDS = { choice: choiceFields, number: numberFields, sentence: sentenceFields };

/**
 * One question: its fields, a button, and what is said of the answer.
 * @param {string} lesson
 * @param {Question} asked
 * @param {number} place
 * @param {() => void} count
 */
function question(lesson, asked, place, count) {
  const about = asked.about ? ` (Looks back to lesson ${asked.about}.)` : "";
  const legend = element("legend", {}, `${place}. `, ...rich(asked.question), about);
  const group = element("fieldset", {}, legend);
  const button = element("button", { type: "submit" }, "Commit my answer");
  const said = element("div", { class: "said", role: "status" });
  const form = element("form", { class: "question", novalidate: true });
  form.append(group, button, said);
  const fields = FIELDS[asked.kind](asked, `question-${place}`);
  group.append(...fields.nodes);

  /** @param {Answer} answer */
  const show = (answer) => {
    fields.close(answer);
    button.disabled = true;
    button.textContent = "Committed";
    said.replaceChildren(...explained(asked, answer));
    if (asked.kind === "sentence") form.append(rubric(lesson, asked));
  };
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const { answer, problem } = fields.given();
    if (answer === undefined) {
      said.textContent = problem;
      return;
    }
    const trouble = change((kept) => {
      kept.quiz[lesson] ??= {};
      kept.quiz[lesson][asked.question] = { answer };
    });
    show(answer);
    if (trouble) said.append(` (${trouble})`);
    count();
  });
  const kept = keptAnswer(lesson, asked);
  if (kept !== null) show(kept);
  return form;
}

/** What is said of a committed answer. @param {Question} asked @param {Answer} answer */
function explained(asked, answer) {
  if (asked.kind === "sentence") return [strong("A model answer:"), " ", ...rich(asked.model)];
  const right = isRight(asked, answer);
  const verdict = strong(right ? "Right." : "Not right.");
  if (asked.kind === "number") {
    const measured = `${plain(asked.measured)} ${asked.number.unit ?? ""}`.trim();
    const run = ` The run on this site measured ${measured}; yours, on your machine,`;
    return [verdict, `${run} may differ. `, ...rich(asked.feedback)];
  }
  const chosen = asked.answers.find((each) => each.answer === answer);
  const said = [verdict, " ", ...rich(chosen?.feedback ?? "")];
  const best = asked.answers.find((each) => each.right);
  if (right || !best) return said;
  const what = element("i", {}, ...rich(best.answer));
  const why = rich(best.feedback);
  return [...said, element("p", {}, strong("Right is:"), " ", what, " ", ...why)];
}

/** @param {string} text */
function strong(text) {
  return element("b", {}, text);
}

/** @param {Question} asked @param {string} name @returns {Fields} */
function choiceFields(asked, name) {
  const inputs = asked.answers.map((_, index) =>
    element("input", { type: "radio", name, value: index }),
  );
  const nodes = asked.answers.map((each, index) =>
    element("label", { class: "answer" }, inputs[index], element("span", {}, ...rich(each.answer))),
  );
  return {
    nodes,
    given: () => {
      const chosen = inputs.findIndex((input) => input.checked);
      return chosen < 0
        ? { problem: "Choose an answer first." }
        : { answer: asked.answers[chosen].answer };
    },
    close: (answer) => {
      inputs.forEach((input, index) => {
        input.checked = asked.answers[index].answer === answer;
        input.disabled = true;
      });
    },
  };
}

/** @param {Question} asked @param {string} name @returns {Fields} */
function numberFields(asked, name) {
  const unit = asked.number.unit ?? "";
  const field = element("input", {
    type: "text",
    inputmode: "decimal",
    id: name,
    autocomplete: "off",
  });
  const label = element("label", { for: name }, "My number");
  const hint = "Look it up in the notebook of this lesson, or measure it yourself.";
  return {
    nodes: [
      element("p", { class: "hint" }, hint),
      element("div", { class: "given" }, label, field, element("span", {}, unit)),
    ],
    given: () => {
      const answer = numberIn(field.value, unit);
      return Number.isFinite(answer) ? { answer } : { problem: "Give a number first." };
    },
    close: (answer) => {
      field.value = String(answer);
      field.disabled = true;
    },
  };
}

/** @param {Question} asked @param {string} name @returns {Fields} */
function sentenceFields(asked, name) {
  const field = element("textarea", { id: name, rows: 3, maxlength: 2000 });
  return {
    nodes: [element("label", { for: name }, "My words, one or two sentences"), field],
    given: () => {
      const answer = field.value.trim();
      return answer ? { answer } : { problem: "Write a sentence first." };
    },
    close: (answer) => {
      field.value = answer;
      field.disabled = true;
    },
  };
}

/** What the reader ticks of an answer in words. @param {string} lesson @param {Question} asked */
function rubric(lesson, asked) {
  const ticked = read().quiz[lesson]?.[asked.question]?.ticked ?? [];
  const boxes = asked.rubric.map((point) => {
    const box = element("input", { type: "checkbox" });
    box.checked = ticked.includes(point);
    return box;
  });
  const keep = () =>
    change((kept) => {
      const entry = kept.quiz[lesson]?.[asked.question];
      if (entry) entry.ticked = asked.rubric.filter((_, i) => boxes[i].checked);
    });
  const labels = asked.rubric.map((point, index) => {
    boxes[index].addEventListener("change", keep);
    return element("label", { class: "answer" }, boxes[index], element("span", {}, ...rich(point)));
  });
  const legend = element("legend", {}, "Tick what yours holds:");
  return element("fieldset", {}, legend, ...labels);
}
