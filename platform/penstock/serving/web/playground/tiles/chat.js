// A conversation, whose replies come as they are made.

import { during, el, events, form, labelled, raw, Refused } from "../parts.js";

export default function tile(model, place) {
  const asked = form(model, ["messages"]);
  const messages = [];
  const said = el("div", { class: "said", role: "log", "aria-label": `conversation with ${model.name}`, tabindex: "0" });
  const result = el("div", {});
  const first = model.example.request.messages?.at(-1)?.content || "";
  const input = el("input", { type: "text", class: "grow", maxlength: 2000, placeholder: first });
  const button = el("button", {}, "Send");
  let running = null;
  const stop = el("button", { type: "button", class: "quiet", hidden: true, click: () => running?.abort() }, "Stop");
  const again = el("button", { type: "button", class: "quiet", click: () => {
    messages.length = 0;
    said.replaceChildren();
    result.replaceChildren();
    input.focus();
  } }, "Start over");

  const talk = () => during(button, result, async () => {
    const text = input.value.trim() || first;
    if (!text) return;
    input.value = "";
    messages.push({ role: "user", content: text });
    said.append(el("p", { class: "user" }, text));
    const reply = el("p", { class: "assistant" }, "…");
    said.append(reply);
    running = new AbortController();
    stop.hidden = false;
    let spoken = "";
    try {
      for await (const { event, data } of events(model, { ...asked.values(), messages }, running.signal)) {
        if (event === "problem") throw new Refused(data, data.status);
        if (event === "answer") {
          spoken = data.text;
          result.replaceChildren(...(data.intent ? [el("p", { class: "note" }, `Understood as: ${data.intent}`)] : []), raw(data, model.name));
        } else spoken += data.text;
        reply.textContent = spoken || "…";
        said.scrollTop = said.scrollHeight;
      }
    } catch (error) {
      if (!spoken) {
        reply.remove();
        messages.pop();
      }
      throw error;
    } finally {
      stop.hidden = true;
      running = null;
      if (spoken) messages.push({ role: "assistant", content: spoken });
      else reply.textContent = "(no words)";
    }
  });

  const ui = el("form", { submit: (event) => { event.preventDefault(); talk(); } },
    el("div", { class: "row" }, labelled("Your message", input), button, stop, again));
  ui.querySelector("label").classList.add("grow");
  place.append(said, ui, el("details", {}, el("summary", {}, "Settings"), asked.shown), result);
}
