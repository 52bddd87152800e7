"""What a person sees of a search."""

from __future__ import annotations

import io
import math
from typing import Any

from rich.console import Console

from penstock.cli.live import Live, table


def event(
    number: int, metric: float, state: str = "paused", mode: str = "max", **more: Any
) -> dict[str, Any]:
    facts = {
        "event": "trial",
        "trial": number,
        "metric": metric,
        "state": state,
        "goal": "accuracy",
        "mode": mode,
    }
    return facts | {"config": {"optim.lr": 0.0123456, "model.kind": "cnn"}, "validations": 1, "of": 9} | more


def drawn(rows: list[dict[str, Any]], most: int, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table({row["trial"]: row for row in rows}, most))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_the_table_shows_the_best_first_and_fits_the_screen() -> None:
    rows = [event(number, number / 100) for number in range(60)]
    rows += [event(60, math.nan, "running"), event(61, math.nan, "failed", why="the loss is [nan]")]
    lines = drawn(rows, 10)
    assert len(lines) == 12  # head, ten trials, how many there are
    assert lines[0].split() == ["trial", "best", "accuracy", "state", "validations", "settings"]
    assert lines[1].split() == ["59", "0.59", "paused", "1/9", "optim.lr=0.01235", "model.kind=cnn"]
    assert lines[10].split()[0] == "60", "what is under way is always shown"
    assert lines[11].strip() == "1 running, 60 paused, 1 failed"
    waits = drawn([*rows[:60], event(60, math.nan, "waiting", why="needs 1 CPU, 0 of 4 free")], 10)
    assert waits[10].split()[0] == "60" and waits[10].endswith("needs 1 CPU, 0 of 4 free")
    every = drawn(rows, 100)
    assert every[62].split()[:1] == ["61"] and every[62].endswith("the loss is [nan]")


def test_on_a_narrow_screen_only_the_settings_are_cut() -> None:
    rows = [event(0, 0.25), event(1, 0.75, "failed", why="the loss of step 3 is not a number")]
    for width in (100, 60, 46):
        lines = drawn(rows, 10, width)
        assert len(lines) == 4 and all(len(line) <= width for line in lines)
        assert lines[1].split()[:4] == ["0", "0.25", "paused", "1/9"]
        assert lines[2].split()[:4] == ["1", "0.75", "failed", "1/9"]
    assert lines[1].endswith("…") and lines[2].endswith("…")


def test_less_is_better_where_the_goal_says_so() -> None:
    rows = [event(0, 0.5, mode="min"), event(1, 0.1, mode="min"), event(2, math.nan, mode="min")]
    assert [line.split()[0] for line in drawn(rows, 10)[1:4]] == ["1", "0", "2"]


def test_without_a_terminal_each_result_is_a_line() -> None:
    out = io.StringIO()
    with Live(out) as live:
        live.show({"event": "note", "text": "the grid has 4 configs"})
        live.show(event(3, math.nan, "running"))
        live.show(event(3, 0.912345))
        live.show(event(3, 0.95, validations=3))
        live.show(event(3, 0.96, validations=5, config={"optim.lr": 0.1}))
        live.show(event(4, math.nan, "failed", why="its process died 4 times"))
    settings = "(optim.lr=0.01235 model.kind=cnn)"
    assert out.getvalue().splitlines() == [
        "the grid has 4 configs",
        f"trial 3: best accuracy 0.9123 after 1 of 9 validations  {settings}",
        "trial 3: best accuracy 0.95 after 3 of 9 validations",
        "trial 3: best accuracy 0.96 after 5 of 9 validations  (optim.lr=0.1)",
        f"trial 4 failed: its process died 4 times  {settings}",
    ]


def test_on_a_terminal_it_is_a_table() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with Live(out) as live:
        live.show(event(0, 0.25))
        live.show(event(1, 0.75))
    assert "0.75" in out.getvalue() and "2 paused" in out.getvalue()
