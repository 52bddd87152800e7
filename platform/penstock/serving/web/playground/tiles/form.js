// Any model: a form of its request, its answer as it comes.

import { ask, bars, during, el, fields, form, medium, raw } from "../parts.js";

const isNumbers = (value) => value && typeof value === "object" && !Array.isArray(value)
  && Object.keys(value).length > 0 && Object.values(value).every((one) => typeof one === "number" && one >= 0 && one <= 1);

/** The parts of an answer that can be shown better than as JSON. */
export function parts(model, answer) {
  const shown = [];
  for (const [name, field] of Object.entries(fields(model.answer))) {
    const value = answer[name];
    if (value === null || value === undefined) continue;
    if (medium(field) === "image") {
      const image = el("img", { alt: `${name} of the answer`, src: `data:image/png;base64,${value}` });
      shown.push(el("div", { class: "seen" }, image));
    } else if (isNumbers(value)) shown.push(bars(value));
    else if (["string", "number", "boolean"].includes(typeof value) && String(value).length < 300) {
      shown.push(el("p", { class: "note" }, `${name}: `, el("strong", {}, String(value))));
    }
  }
  return shown;
}

export default function tile(model, place) {
  const asked = form(model);
  const button = el("button", {}, "Ask");
  const result = el("div", { "aria-live": "polite" });
  const ui = el("form", { submit: (event) => {
    event.preventDefault();
    during(button, result, async () => {
      const { answer, by, ms } = await ask(model, asked.values());
      result.replaceChildren(...parts(model, answer), raw(answer, by, ms));
    });
  } }, asked.shown, button);
  place.append(ui, result);
}
