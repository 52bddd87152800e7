// What all tiles use: elements, requests, the form of a schema.

/** An element: tag, attributes (functions are listeners), children. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

let counter = 0;
export const unique = (name) => `${name}-${++counter}`;

/** A control with its visible label. */
export function labelled(text, control, hint = "") {
  control.id ||= unique("field");
  return el("label", { class: "field", for: control.id, title: hint }, el("span", {}, text), control);
}

export class Refused extends Error {
  constructor(problem, status) {
    super(problem.detail || `status ${status}`);
    this.problem = problem;
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem("penstock-key") || "",
  set: (value) => sessionStorage.setItem("penstock-key", value),
};

/** One request; Refused with the problem document where the endpoint says no. */
export async function send(path, { body, type, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  if (type) headers["Content-Type"] = type;
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused({ detail: "the endpoint does not answer" }, 0);
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401) document.getElementById("key-form").hidden = false;
  throw new Refused(problem, response.status);
}

export async function ask(model, values, verb = "predict") {
  const began = performance.now();
  const response = await send(`v1/models/${model.name}/${verb}`, { body: JSON.stringify(values), type: "application/json" });
  const answer = await response.json();
  return { answer, by: response.headers.get("X-Model"), ms: performance.now() - began };
}

/** Server-sent events of a stream: yields {event, data}. */
export async function* events(model, values, signal) {
  const response = await send(`v1/models/${model.name}/stream`, {
    body: JSON.stringify(values), type: "application/json", accept: "text/event-stream", signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const lines = rest.slice(0, end).split("\n");
      rest = rest.slice(end + 2);
      const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      const event = lines.find((line) => line.startsWith("event: "))?.slice(7) || "message";
      yield { event, data: JSON.parse(data) };
    }
  }
}

export async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}

// ---------------------------------------------------------------- schemas

/** A schema with its $ref followed, and `X or null` as X. */
export function plain(schema, root) {
  let found = schema;
  if (found.$ref) found = { ...root.$defs[found.$ref.split("/").pop()], ...found, $ref: undefined };
  const some = found.anyOf?.filter((one) => one.type !== "null");
  if (some?.length === 1) found = { ...found, ...plain(some[0], root), anyOf: undefined, optional: true };
  return found;
}

export function fields(schema) {
  return Object.fromEntries(Object.entries(schema.properties || {}).map(([name, field]) => [name, plain(field, schema)]));
}

export const medium = (field) => (field.contentMediaType || "").split("/")[0];

/** The name of the first field of `schema` for which `test` holds. */
export const fieldWhere = (schema, test) => Object.entries(fields(schema)).find(([, field]) => test(field))?.[0];

/** Controls for the simple fields of a request, and what they say. */
export function form(model, leave = []) {
  const controls = {};
  const shown = el("div", { class: "row" });
  const given = model.example.request;
  for (const [name, field] of Object.entries(fields(model.request))) {
    if (leave.includes(name) || medium(field)) continue;
    const value = given[name] ?? field.default;
    const control = controlOf(field, value);
    controls[name] = { field, control };
    shown.append(labelled(name.replaceAll("_", " "), control, field.description || ""));
  }
  const values = () => {
    const said = {};
    for (const [name, { field, control }] of Object.entries(controls)) {
      const value = valueOf(field, control, name);
      if (value !== undefined) said[name] = value;
    }
    return said;
  };
  return { shown, values, controls, empty: !Object.keys(controls).length };
}

function controlOf(field, value) {
  if (field.type === "boolean") return el("input", { type: "checkbox", checked: Boolean(value) });
  const options = field.enum || (field.const !== undefined ? [field.const] : null);
  if (options) {
    const none = field.optional ? [el("option", { value: "" }, "–")] : [];
    return el("select", {}, ...none, ...options.map((one) => el("option", { value: one, selected: one === value }, String(one) || "–")));
  }
  if (field.type === "integer" || field.type === "number") {
    const step = field.type === "integer" ? 1 : "any";
    const most = field.maximum ?? undefined;
    return el("input", { type: "number", step, min: field.minimum, max: most, value: value ?? "" });
  }
  if (field.type === "string") return el("input", { type: "text", maxlength: field.maxLength, value: value ?? "" });
  const text = value === undefined || value === null ? "" : JSON.stringify(value);
  return el("textarea", { rows: 2, spellcheck: "false", placeholder: "JSON" }, text);
}

function valueOf(field, control, name) {
  if (field.type === "boolean") return control.checked;
  if (control.value === "") return undefined;
  if (field.type === "integer" || field.type === "number") return Number(control.value);
  if (field.type === "string" || field.enum) return control.value;
  try {
    return JSON.parse(control.value);
  } catch {
    throw new Refused({ detail: `${name} is not JSON` }, 0);
  }
}

// ---------------------------------------------------------------- answers

/** Probabilities as bars, the highest first. */
export function bars(values, most = 6) {
  const rows = Object.entries(values).sort((a, b) => b[1] - a[1]).slice(0, most);
  const shown = el("div", { class: "bars" });
  for (const [label, value] of rows) {
    const meter = el("meter", { min: 0, max: 1, value, "aria-label": `${label}: ${(100 * value).toFixed(1)} %` });
    shown.append(el("span", {}, label), meter, el("span", {}, `${(100 * value).toFixed(1)} %`));
  }
  return shown;
}

/** The answer as it came, long strings cut. */
export function raw(answer, by, ms) {
  const short = (name, value) => (typeof value === "string" && value.length > 200 ? `${value.slice(0, 60)}… (${value.length} characters)` : value);
  const seconds = ms === undefined ? "" : `, ${ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`}`;
  return el("details", {}, el("summary", {}, `${by || "the answer"}${seconds}`), el("pre", {}, JSON.stringify(answer, short, 1)));
}

/** Runs `work`, shows what goes wrong, keeps `button` from being pressed twice. */
export async function during(button, place, work) {
  if (button) button.disabled = true;
  place.setAttribute("aria-busy", "true");
  place.querySelector(":scope > .wrong")?.remove();
  try {
    await work();
  } catch (error) {
    if (error.name !== "AbortError") place.append(el("p", { class: "wrong", role: "alert" }, error.message));
  } finally {
    if (button) button.disabled = false;
    place.removeAttribute("aria-busy");
  }
}

/** Where a file of a model's is dropped or chosen; `take` gets it. */
export function dropped(text, input, take, ...more) {
  const file = el("input", { type: "file", ...input, change: () => file.files[0] && take(file.files[0]) });
  const drop = el("div", {
    class: "drop",
    dragover: (event) => { event.preventDefault(); drop.classList.add("over"); },
    dragleave: () => drop.classList.remove("over"),
    drop: (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
    },
  }, el("span", {}, text), file, ...more);
  return drop;
}

/** A button that takes the model's own example of `name`. */
export const exampled = (model, name, type, take) => el("button", { type: "button", class: "quiet", click: () => {
  const bytes = Uint8Array.from(atob(model.example.request[name]), (letter) => letter.charCodeAt(0));
  return take(new Blob([bytes], { type }));
} }, "Use the example");
