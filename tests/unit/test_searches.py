"""What a search says about itself: its figures, and its place among the runs."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from penstock import api
from penstock.cli.live import table
from penstock.cli.progress import Progress
from penstock.config import to_dict
from penstock.errors import RunError
from penstock.journal import Journal
from penstock.store import Store, lock
from penstock.training.events import EventLog
from penstock.training.run import Run, RunSpec
from penstock.tuning.asked import Asked, default_name, keep, read
from penstock.tuning.ledger import Ledger, Trial
from penstock.tuning.listing import searches
from penstock.tuning.report import figures, importance
from penstock.tuning.schedule import Whole
from penstock.tuning.search import Search
from penstock.workload import Goal
from tests.toy import Config

GOAL = Goal("accuracy", "max")
SPEC = RunSpec("toy", "tests.toy:workload", to_dict(Config()), "data", model="toy")
ASKED = Asked(SPEC, {"optim.lr": "log(0.0001,0.1)"}, "asha", "random")


def test_a_search_is_kept_and_other_settings_are_refused(store: Store) -> None:
    keep(store, "mine", ASKED)
    assert read(store, "mine") == ASKED
    more = dataclasses.replace(ASKED, spec=dataclasses.replace(SPEC, workers=4))
    keep(store, "mine", more)  # a means, not a setting
    other = dataclasses.replace(ASKED, searcher="grid", spec=dataclasses.replace(SPEC, seed=1))
    with pytest.raises(
        RunError, match=r"seed \(0, now 1\), searcher \('random', now 'grid'\); choose another"
    ):
        keep(store, "mine", other)
    with pytest.raises(RunError, match="no search 'mien'; did you mean mine"):
        read(store, "mien")
    with pytest.raises(RunError, match="up to 48"):
        keep(store, "x" * 49, ASKED)
    assert default_name(ASKED) == default_name(more) != default_name(other)
    assert default_name(ASKED).startswith("toy-asha-")


def test_the_trials_of_a_search_are_one_row_among_the_runs(store: Store) -> None:
    folder = keep(store, "mine", ASKED)
    ledger = Ledger(Journal(folder / "ledger.jsonl"))
    ledger.append({"record": "trials", "count": 2})
    for number in range(2):
        name = f"mine-{number}"
        Run.create(store, name, dataclasses.replace(SPEC, search="mine"))
        ledger.append({"record": "trial", "trial": number, "settings": {"optim.lr": 0.1}, "run": name})
        ledger.append(
            {"record": "reached", "trial": number, "values": [0.5], "step": 8, "finished": number == 0}
        )
    Run.create(store, "alone", SPEC)
    rows = api.runs(store=store)
    assert [row["run"] for row in rows] == ["alone", "mine"]
    assert rows[0].keys() == rows[1].keys()
    assert (rows[1]["trials"], rows[1]["step"], rows[1]["state"]) == ("1/2", 16, "stopped")
    assert searches(store) == rows[1:]


def test_a_page_of_neither_a_run_nor_a_search_is_refused_by_all_their_names(store: Store, cli: Any) -> None:
    keep(store, "mine", ASKED)
    Run.create(store, "alone", SPEC)
    for name, near in (("mime", "mine"), ("alnoe", "alone")):
        said = cli("report", name, "--store", store.root).error
        assert said == f"penstock: no run or search '{name}'; did you mean {near}?"


@pytest.mark.parametrize("told", ["mine", "mine-0"])  # the search itself, or a trial with workers of its own
def test_a_search_without_a_place_waits_and_runs_says_for_what(told: str, store: Store, cli: Any) -> None:
    why = "needs 1 CPU, 0 of 4 free; held by run x (4)"
    folder = keep(store, "mine", ASKED)
    assert searches(store)[0]["state"] == "new"
    Ledger(Journal(folder / "ledger.jsonl")).append({"record": "trials", "count": 2})
    run = Run.create(store, "mine-0", dataclasses.replace(SPEC, search="mine"))
    log = EventLog((folder if told == "mine" else run.path) / "events.jsonl")
    log.append({"event": "waiting", "for": why})
    assert searches(store)[0]["state"] == "stopped"
    with lock(folder / ".driver.lock", blocking=False):
        (row,) = api.runs(store=store)
        assert row["waits_for"] == why
        assert row["state"] == ("waiting" if told == "mine" else "running")
        assert f"mine waits: {why}" in cli("runs", "--store", store.root).out.splitlines()
        log.append({"event": "placed"})
        (row,) = api.runs(store=store)
        assert (row["state"], row["waits_for"]) == ("running", None)


def test_whoever_started_a_search_sees_that_it_waits_in_the_table_too(store: Store) -> None:
    class Runs:
        def create(self, name: str, settings: Mapping[str, Any]) -> None: ...

        def fork(self, source: str, name: str, settings: Mapping[str, Any]) -> int: ...

    ledger = Ledger(Journal(keep(store, "mine", ASKED) / "ledger.jsonl"))
    ledger.append({"record": "trials", "count": 2})
    told: list[dict[str, Any]] = []
    search = Search(
        "mine", ledger, Whole(9), lambda number, known: {"optim.lr": 0.1}, Runs(), GOAL, 9, told.append
    )
    assert search.next_job() is not None and search.next_job() is not None
    for why in ({1: "needs 1 CPU"}, {0: "needs 1 CPU", 1: "needs 1 CPU"}, {0: "needs 1 CPU"}, {}):
        search.wait(why)
        assert {row["trial"]: row["why"] for row in search.rows() if row["state"] == "waiting"} == why
    assert [one for one in told if one["event"] == "waiting"] == [{"event": "waiting", "for": "needs 1 CPU"}]
    seen = [(one["trial"], one["state"]) for one in told if one["event"] == "trial"]
    now, later = "running", "waiting"
    assert seen == [(0, now), (1, now), (1, later), (0, later), (1, now), (0, now)]
    drawn = io.StringIO()
    Console(file=drawn, width=100).print(table({0: told[4]}, 10))
    assert drawn.getvalue().splitlines()[1].endswith("needs 1 CPU") and "why" not in search.rows()[0]
    out = io.StringIO()
    with Progress(out) as progress:
        for event in told:
            progress.show(event)
    assert out.getvalue() == "waiting: needs 1 CPU\n"


def test_importance_finds_the_setting_that_matters(tmp_path: Path) -> None:
    ranked = [
        Trial(
            number,
            {"a": number * 1.0, "b": (number * 7) % 12, "c": "xy"[number // 6]},
            "",
            [0.9 - number / 100],
        )
        for number in range(12)
    ]
    shares = importance(ranked, GOAL)
    assert shares["a"] == pytest.approx(1.0)
    assert shares["c"] == pytest.approx(0.755, abs=0.01)
    assert 0 <= shares["b"] < 0.2
    assert importance(ranked[:3], GOAL) == {}
    ledger = Ledger(Journal(tmp_path / "ledger.jsonl"))
    ledger.trials = {trial.number: trial for trial in ranked}
    shown = figures(ranked, ledger, GOAL)
    assert [figure.title for figure in shown] == [
        "Learning curves: accuracy",
        "What the search found",
        "Importance of settings",
    ]
    assert all(figure.svg.startswith("<svg") for figure in shown)
    assert shown[0].caption == "The best 8 of 12 trials."
