// A tile for each served model, chosen by what the model can do and what its schemas hold.

import { el, key, medium, fieldWhere, fields, send, plain } from "./parts.js";
import board from "./tiles/board.js";
import chat from "./tiles/chat.js";
import form from "./tiles/form.js";
import list from "./tiles/list.js";
import picture from "./tiles/picture.js";
import sound from "./tiles/sound.js";
import wall from "./tiles/wall.js";

const isImages = (field) => field.type === "array" && medium(field.items || {}) === "image";

/** What a model is shown with. Nothing here knows a workload by its name. */
function tileFor(model) {
  const asked = fields(model.request);
  if (model.able.includes("board")) return board;
  if (model.able.includes("chat") && asked.messages) return chat;
  if (fieldWhere(model.request, (field) => medium(field) === "image")) return picture;
  if (fieldWhere(model.request, (field) => medium(field) === "audio")) return sound;
  if (asked.seed && fieldWhere(model.answer, isImages)) return wall;
  const items = fields(model.answer).items;
  if (items?.type === "array" && plain(items.items, model.answer).properties?.item) return list;
  return form;
}

function headOf(model) {
  const goal = model.goal;
  const worth = typeof goal.value === "number" ? `${goal.metric} ${goal.value.toFixed(3)}` : "";
  const range = typeof goal.low === "number" ? ` (${goal.low.toFixed(3)} to ${goal.high.toFixed(3)})` : "";
  const badge = `@${model.version}${model.share < 1 ? `, ${(100 * model.share).toFixed(0)} %` : ""}`;
  return el("header", {},
    el("h2", {}, model.name, el("span", { class: "badge" }, badge)),
    el("p", {}, [model.summary, worth + range].filter(Boolean).join(" · ")));
}

async function start() {
  const state = document.getElementById("state");
  const place = document.getElementById("models");
  place.replaceChildren();
  try {
    const listed = (await (await send("v1/models")).json()).models;
    const names = [...new Set(listed.map((one) => one.name))];
    state.textContent = names.length === 1 ? "One model." : `${names.length} models.`;
    for (const name of names) {
      const model = await (await send(`v1/models/${name}`)).json();
      const section = el("section", { class: "tile", "aria-label": name, "data-model": name }, headOf(model));
      place.append(section);
      const body = el("div", {});
      section.append(body);
      try {
        tileFor(model)(model, body);
      } catch (error) {
        body.replaceChildren(el("p", { class: "wrong" }, `This tile failed: ${error.message}`));
      }
    }
  } catch (error) {
    state.textContent = error.status === 401 ? "This endpoint asks for an access key." : error.message;
  }
}

document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(document.getElementById("key").value.trim());
  start();
});
start();
