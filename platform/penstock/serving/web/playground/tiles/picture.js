// A picture: dropped, pasted or chosen; boxes drawn on it, maps beside it.

import { base64, ask, dropped, during, el, exampled, fieldWhere, fields, form, medium, raw } from "../parts.js";
import { parts } from "./form.js";

const COLOURS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000"];

export default function tile(model, place) {
  const name = fieldWhere(model.request, (field) => medium(field) === "image");
  const flag = fields(model.request).heatmap ? "heatmap" : null;
  const asked = form(model, [name]);
  if (flag) asked.controls[flag].control.checked = true;
  const result = el("div", { "aria-live": "polite" });
  let current = null;

  const look = (blob) => {
    current = blob;
    during(null, result, async () => {
      const { answer, by, ms } = await ask(model, { ...asked.values(), [name]: await base64(blob) });
      const image = el("img", { alt: "the picture that was asked about" });
      const seen = el("div", { class: "seen" }, image);
      const url = URL.createObjectURL(blob);
      image.src = url;
      await image.decode();
      URL.revokeObjectURL(url);
      if (image.naturalWidth < 200) image.classList.add("small");
      const found = Array.isArray(answer.boxes) ? answer.boxes : null;
      if (found) seen.append(drawn(found, image));
      result.replaceChildren(...(flag && answer[flag] ? [] : [seen]), ...(found ? [said(found)] : []), ...parts(model, answer), raw(answer, by, ms));
    });
  };

  const drop = dropped(
    "Drop a picture here",
    { accept: model.media_types.join(","), "aria-label": `a picture for ${model.name}` },
    look,
    exampled(model, name, "", look),
  );
  place.addEventListener("paste", (event) => {
    const pasted = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (pasted) look(pasted);
  });
  asked.shown.addEventListener("change", () => current && look(current));
  place.append(drop, el("details", {}, el("summary", {}, "Settings"), asked.shown), result);
}

/** Boxes on a canvas over the picture; its text is in the list below. */
function drawn(found, image) {
  const canvas = el("canvas", { width: image.naturalWidth, height: image.naturalHeight, "aria-hidden": "true" });
  const pen = canvas.getContext("2d");
  const unit = Math.max(1, Math.max(canvas.width, canvas.height) / 400);
  const labels = [...new Set(found.map((one) => one.label))];
  pen.lineWidth = 2 * unit;
  pen.font = `${13 * unit}px system-ui`;
  for (const { label, score, box: [left, top, right, bottom] } of found.filter((one) => one.score >= 0.3)) {
    const colour = COLOURS[labels.indexOf(label) % COLOURS.length];
    const text = `${label} ${(100 * score).toFixed(0)}`;
    pen.strokeStyle = pen.fillStyle = colour;
    pen.strokeRect(left, top, right - left, bottom - top);
    pen.fillRect(left, Math.max(0, top - 17 * unit), pen.measureText(text).width + 8 * unit, 17 * unit);
    pen.fillStyle = "#fff";
    pen.fillText(text, left + 4 * unit, Math.max(13 * unit, top - 4 * unit));
  }
  return canvas;
}

function said(found) {
  const sure = found.filter((one) => one.score >= 0.3);
  const counts = {};
  for (const one of sure) counts[one.label] = (counts[one.label] || 0) + 1;
  const words = Object.entries(counts).map(([label, n]) => (n > 1 ? `${n} × ${label}` : label)).join(", ");
  return el("p", {}, sure.length ? `Found: ${words}.` : "Nothing that is 30 % sure.", found.length > sure.length ? ` ${found.length - sure.length} less sure.` : "");
}
