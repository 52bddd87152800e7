// A sound: recorded, dropped or chosen. Recordings are sent as WAV, 16 bits, one channel.

import { base64, ask, bars, dropped, during, el, exampled, fieldWhere, form, medium, raw } from "../parts.js";

const LONGEST_S = 10;

export default function tile(model, place) {
  const name = fieldWhere(model.request, (field) => medium(field) === "audio");
  const asked = form(model, [name]);
  const result = el("div", { "aria-live": "polite" });

  const hear = (blob) => during(null, result, async () => {
    const { answer, by, ms } = await ask(model, { ...asked.values(), [name]: await base64(blob) });
    const player = el("audio", { controls: true, "aria-label": "what was sent" });
    player.src = URL.createObjectURL(blob);
    const text = answer.text || answer.label || "";
    const action = answer.action ? ` → ${answer.action}` : "";
    const line = el("p", {}, el("strong", {}, text || "No word was heard"), action);
    const scores = answer.probabilities ? [bars(answer.probabilities, 5)] : [];
    result.replaceChildren(player, line, ...scores, raw(answer, by, ms));
  });

  const record = el("button", { type: "button", click: () => (record.stop ? record.stop() : start()) }, "Record");
  const start = () => during(null, result, async () => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true }).catch(() => {
      throw new Error("there is no microphone here, or it may not be used");
    });
    const context = new AudioContext();
    const source = context.createMediaStreamSource(stream);
    const chunks = [];
    const tap = context.createScriptProcessor(4096, 1, 1);
    tap.onaudioprocess = (event) => chunks.push(event.inputBuffer.getChannelData(0).slice());
    source.connect(tap);
    tap.connect(context.destination);
    record.textContent = "Stop";
    await new Promise((done) => {
      record.stop = done;
      setTimeout(done, 1000 * LONGEST_S);
    });
    record.stop = null;
    record.textContent = "Record";
    tap.disconnect();
    for (const track of stream.getTracks()) track.stop();
    const rate = context.sampleRate;
    await context.close();
    hear(wav(chunks, rate));
  });
  const drop = dropped(
    "Say something, or drop a WAV file here",
    { accept: ".wav,audio/wav", "aria-label": `a sound for ${model.name}` },
    hear,
    el("div", { class: "row" }, record, exampled(model, name, "audio/wav", hear)),
  );
  place.append(drop, asked.empty ? "" : el("details", {}, el("summary", {}, "Settings"), asked.shown), result);
}

function wav(chunks, rate) {
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  const word = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, 36 + 2 * length, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  word(36, "data");
  view.setUint32(40, 2 * length, true);
  let at = 44;
  for (const chunk of chunks) {
    for (const sample of chunk) {
      view.setInt16(at, Math.max(-1, Math.min(1, sample)) * 32767, true);
      at += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}
