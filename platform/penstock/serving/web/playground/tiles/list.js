// Things for somebody: for a known user, or from what one likes in the list itself.

import { ask, during, el, fields, form, plain, raw } from "../parts.js";

/** The request's list of things that somebody likes, if it has one. */
function likes(model) {
  for (const [name, field] of Object.entries(fields(model.request))) {
    const each = field.type === "array" && plain(field.items || {}, model.request);
    if (each && each.properties?.item && each.properties?.rating) return name;
  }
  return null;
}

export default function tile(model, place) {
  const liked = likes(model);
  const shownFirst = ["user", "n"].filter((name) => fields(model.request)[name]);
  const rest = form(model, [...shownFirst, ...(liked ? [liked] : [])]);
  const ask1 = form(model, Object.keys(fields(model.request)).filter((name) => !shownFirst.includes(name)));
  if (ask1.controls.user) ask1.controls.user.control.value = "";
  const chosen = new Map();
  const button = el("button", {}, "Recommend");
  const result = el("div", { "aria-live": "polite" });
  const likedPlace = el("p", { class: "note" });

  const go = () => during(button, result, async () => {
    const values = { ...rest.values(), ...ask1.values() };
    if (liked && chosen.size) values[liked] = [...chosen.keys()].map((item) => ({ item }));
    const { answer, by, ms } = await ask(model, values);
    const why = answer.basis ? el("p", { class: "note" }, answer.basis === "history" ? "By what was watched before." : "Nothing is known yet: what most people watch.") : "";
    result.replaceChildren(why, el("ol", { class: "items" }, ...answer.items.map(line)), raw(answer, by, ms));
  });

  function line(item) {
    const title = item.title || item.item;
    const like = el("button", { type: "button", class: "quiet", "aria-label": `more like ${title}`, click: () => {
      chosen.set(item.item, title);
      tell();
      go();
    } }, "more like this");
    const worth = typeof item.rating === "number" ? ` (${item.rating.toFixed(1)})` : "";
    return el("li", {}, el("span", {}, el("span", {}, title + worth), liked ? like : ""));
  }

  function tell() {
    if (!chosen.size) return likedPlace.replaceChildren();
    const forget = el("button", { type: "button", class: "quiet", click: () => { chosen.clear(); tell(); go(); } }, "forget");
    likedPlace.replaceChildren(`You like: ${[...chosen.values()].join(", ")} `, forget);
  }

  const ui = el("form", { submit: (event) => { event.preventDefault(); go(); } }, ask1.shown, button);
  place.append(ui, likedPlace, rest.empty ? "" : el("details", {}, el("summary", {}, "Settings"), rest.shown), result);
}
