// A Go board to play against the model, with what it thinks of the game.

import { ask, during, el, form, labelled, raw } from "../parts.js";

const LETTERS = "ABCDEFGHJKLMNOPQRST";
const vertex = (row, column, rows) => `${LETTERS[column]}${rows - row}`;

export default function tile(model, place) {
  const example = model.example.request;
  const size = el("select", {}, ...[5, 7, 9, 13, 19].map((n) => el("option", { value: n, selected: n === (example.size || 9) }, `${n} × ${n}`)));
  const colour = el("select", {}, el("option", { value: "black" }, "black"), el("option", { value: "white" }, "white"));
  const komi = el("input", { type: "number", step: 0.5, min: -361, max: 361, value: example.komi ?? 0.5 });
  const asked = form(model, ["size", "komi", "moves", "sgf", "review", "against"]);
  const grid = el("div", { class: "board", role: "group", "aria-label": "board; arrow keys move, Enter plays" });
  const state = el("p", { role: "status" });
  const graph = el("div", {});
  const result = el("div", {});
  let moves = [], rates = [], position = null, turn = 0, at = [0, 0];

  const request = () => ({ ...asked.values(), size: Number(size.value), komi: Number(komi.value), moves });
  const mine = () => position && position.to_play === colour.value;

  async function look() {
    position = (await ask(model, request(), "position")).answer;
    draw();
  }

  async function reply() {
    const now = ++turn;
    while (!position.over && !mine()) {
      state.textContent = "It thinks …";
      const { answer, by, ms } = await ask(model, request());
      if (now !== turn) return; // a new game, or a move taken back, while it thought
      const black = answer.to_play === "black" ? answer.win_rate : 1 - answer.win_rate;
      rates.push([moves.length, black]);
      result.replaceChildren(raw(answer, by, ms));
      moves.push(answer.move);
      await look();
    }
    chart();
  }

  const play = (move) => during(null, result, async () => {
    if (!mine() || position.over || !position.legal.includes(move)) return;
    moves.push(move);
    await look();
    await reply();
  });

  const start = () => during(null, result, async () => {
    turn++;
    state.textContent = "Setting up the board …";
    moves = [];
    rates = [];
    at = [Math.floor(size.value / 2), Math.floor(size.value / 2)];
    await look();
    chart();
    await reply();
  });

  const undo = () => during(null, result, async () => {
    turn++;
    do moves.pop(); while (moves.length && moves.length % 2 !== (colour.value === "black" ? 0 : 1));
    rates = rates.filter(([ply]) => ply < moves.length);
    await look();
    chart();
    if (!mine()) await reply();
  });

  function draw() {
    const rows = position.stones.length, columns = position.stones[0].length;
    const focused = grid.contains(document.activeElement);
    const last = moves.at(-1);
    grid.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
    grid.replaceChildren();
    position.stones.forEach((row, r) => row.forEach((stone, c) => {
      const name = vertex(r, c, rows);
      const what = stone > 0 ? "black" : stone < 0 ? "white" : "empty";
      const legal = mine() && !position.over && position.legal.includes(name);
      const classes = ["point", what, legal && "legal", name === last && "last",
        c === 0 && "left", c === columns - 1 && "right", r === 0 && "top", r === rows - 1 && "bottom"].filter(Boolean);
      grid.append(el("button", {
        type: "button", class: classes.join(" "), "data-vertex": name, "aria-label": `${name}, ${what}`, "aria-disabled": String(!legal),
        tabindex: r === at[0] && c === at[1] ? 0 : -1, click: () => { at = [r, c]; play(name); }, keydown: (event) => step(event, r, c, rows, columns),
      }));
    }));
    if (focused) grid.children[at[0] * columns + at[1]].focus();
    const ahead = position.score === 0 ? "even" : `${position.score > 0 ? "black" : "white"} is ${Math.abs(position.score)} points ahead as it stands`;
    const passed = last === "pass" ? `${position.to_play === "black" ? "White" : "Black"} passed. ` : "";
    state.textContent = position.over ? `The game is over: ${ahead}.` : `${passed}${mine() ? "Your move" : "Its move"}; ${ahead}.`;
  }

  function step(event, r, c, rows, columns) {
    const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    at = [Math.min(rows - 1, Math.max(0, r + way[0])), Math.min(columns - 1, Math.max(0, c + way[1]))];
    grid.children[r * columns + c].tabIndex = -1;
    const next = grid.children[at[0] * columns + at[1]];
    next.tabIndex = 0;
    next.focus();
  }

  function chart() {
    if (!rates.length) return graph.replaceChildren();
    const wide = Math.max(moves.length, 10);
    const points = rates.map(([ply, rate]) => `${(100 * ply) / wide},${40 * (1 - rate)}`).join(" ");
    const now = (100 * rates.at(-1)[1]).toFixed(0);
    const text = `It gives black ${now} %.`;
    const box = document.createElement("div");
    box.innerHTML = `<svg class="graph" viewBox="0 0 100 40" preserveAspectRatio="none" role="img"><line x1="0" x2="100" y1="20" y2="20"/><polyline/></svg>`;
    box.querySelector("polyline").setAttribute("points", rates.length > 1 ? points : `0,20 ${points}`);
    box.querySelector("svg").setAttribute("aria-label", `black's chance of winning, move by move. ${text}`);
    graph.replaceChildren(el("p", { class: "note" }, `Black's chance of winning: ${text}`), box.firstChild);
  }

  const control = (text, work) => el("button", { type: "button", class: "quiet", click: work }, text);
  const settings = el("div", { class: "row" }, labelled("board", size), labelled("you play", colour), labelled("komi", komi));
  for (const one of [size, colour, komi]) one.addEventListener("change", start);
  place.append(settings, grid, state,
    el("div", { class: "row" }, control("Pass", () => play("pass")), control("Take back", undo), control("New game", start)),
    graph, el("details", {}, el("summary", {}, "Settings"), asked.shown), result);
  start();
}
