// A wall of generated pictures, each with its seed and class.

import { ask, during, el, fields, form, labelled, medium, raw } from "../parts.js";

export default function tile(model, place) {
  const name = Object.entries(fields(model.answer)).find(([, field]) => field.type === "array" && medium(field.items || {}) === "image")[0];
  const asked = form(model, ["label", "picture", "to_seed", "steps"]);
  const labels = model.card.schema?.labels || [];
  if (fields(model.request).label && labels.length) {
    const choice = el("select", {}, el("option", { value: "" }, "any"), ...labels.map((one) => el("option", {}, one)));
    asked.shown.append(labelled("label", choice));
    asked.controls.label = { field: { type: "string" }, control: choice };
  }
  if (asked.controls.count) asked.controls.count.control.value = 24;
  const button = el("button", {}, "Draw");
  const more = el("button", { type: "button", class: "quiet", click: () => {
    const seed = asked.controls.seed.control;
    seed.value = Number(seed.value || 0) + Number(asked.controls.count?.control.value || 1);
    draw();
  } }, "Others");
  const result = el("div", { "aria-live": "polite" });
  const draw = () => during(button, result, async () => {
    const { answer, by, ms } = await ask(model, asked.values());
    const wall = el("div", { class: "wall" });
    answer[name].forEach((image, i) => {
      const caption = [answer.labels?.[i], answer.seeds ? `seed ${answer.seeds[i]}` : ""].filter(Boolean).join(" · ");
      wall.append(el("figure", {}, el("img", { src: `data:image/png;base64,${image}`, alt: caption || `picture ${i + 1}` }), el("figcaption", {}, caption)));
    });
    result.replaceChildren(wall, raw(answer, by, ms));
  });
  const ui = el("form", { submit: (event) => { event.preventDefault(); draw(); } }, asked.shown, el("div", { class: "row" }, button, more));
  place.append(ui, result);
}
