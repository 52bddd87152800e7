"""Searches on Ray Tune: killed at any moment they go on, train nothing twice and publish the best."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import PenstockError, RunFailed
from penstock.store import Store
from penstock.training.run import Run
from penstock.tuning.space import sample
from penstock.tuning.tune import tune
from tests import toy
from tests.cluster.searching import Searching, published

# noise keeps the best from being perfect at once
WORDS = ["toy", "--preset", "smoke", "--cpus", "2", "train.epochs=9", "data.noise=1.6", "data.items=300"]


@contextmanager
def searching(store: Store, name: str, *words: str) -> Iterator[Searching]:
    search = Searching(store, name, [*WORDS, *words])
    try:
        yield search
    finally:
        search.close()


def check_whole(search: Searching, result: dict[str, Any], store: Store, trials: int) -> None:
    """Nothing was trained twice, suggestions are what they are, the best is there and published once."""
    assert search.trained_twice() == []
    assert result["steps"] == search.steps()
    rows = result["trials"]
    assert [row["trial"] for row in rows] == list(range(trials))
    suggested = [record["settings"] for record in search.records("trial")]
    space = {name: toy.workload.space[name] for name in ("optim.lr", "model.width")}
    assert suggested == [sample(space, 0, number) for number in range(trials)]
    values = [value for record in search.records("reached") for value in record["values"]]
    assert result["best"]["metric"] == max(values) and result["best"]["state"] == "finished"
    assert result["best"] == next(row for row in rows if row["trial"] == result["best"]["trial"])
    assert len(published(store, "toy")) == 1
    card = json.loads((published(store, "toy")[0] / "card.json").read_bytes())
    assert card["run"] == result["best"]["run"]
    for name, value in result["best"]["config"].items():
        section, _, key = name.partition(".")
        assert card["config"][section][key] == value
    report = Path(result["report"]).read_text()
    assert "Importance of settings" in report
    assert "://" not in report.replace("http://www.w3.org", ""), "the page is complete"


def test_an_asha_search_goes_on_after_a_kill(store: Store) -> None:
    with searching(store, "asha", "--trials", "4") as search:
        search.wait("reached", 2)
        search.kill()
        search.start()
        result = search.result()
        check_whole(search, result, store, 4)
        # the same again finds everything done
        records = search.records("reached")
        search.start()
        again = search.result()
    assert again["best"] == result["best"] and again["version"] == result["version"]
    assert search.records("reached") == records and len(published(store, "toy")) == 1


def test_a_pbt_search_goes_on_after_a_kill(store: Store) -> None:
    with searching(store, "pbt", "--scheduler", "pbt", "--trials", "4", "train.epochs=3") as search:
        search.wait("forked", 1)
        search.wait("reached", 5)
        search.kill()
        search.start()
        check_whole(search, search.result(), store, 4)
    forks = search.records("forked")
    assert [fork["after"] for fork in forks] == [1, 2]
    for fork in forks:
        run = Run.open(store, fork["run"])
        assert run.attempts[0]["from_step"] == fork["step"] > 0
        assert run.spec.config["optim"]["lr"] == fork["settings"]["optim.lr"]


def test_a_search_in_python_with_a_failure_other_settings_and_more_trials(
    store: Store, ray_session: None
) -> None:
    events: list[dict[str, Any]] = []

    def search(*words: str, **options: Any) -> Any:
        given = {"scheduler": "none", "searcher": "grid", "name": "py", "store": store} | options
        words = words or ("optim.lr=choice(1e-2,1e30)", "optim.clip=0")
        return tune("toy", preset="smoke", overrides=words, on_event=events.append, **given)

    result = search(trials=1)
    assert [row["state"] for row in result.trials] in (["finished"], ["failed"])
    result = search()  # the whole grid was not asked for: one trial it remains
    assert len(result.trials) == 1
    result = search(trials=2)
    states = {row["config"]["optim.lr"]: row["state"] for row in result.trials}
    assert states == {1e-2: "finished", 1e30: "failed"}
    assert len(search(trials=1).trials) == 2
    text = "search py has 2 trials already; it goes on with all of them"
    assert {"event": "note", "text": text} in events
    failed = next(row for row in result.trials if row["state"] == "failed")
    assert "the loss of step" in failed["why"] and "\n" not in failed["why"]
    assert failed["why"] in html.unescape(Path(result.report).read_text())
    with pytest.raises(
        PenstockError, match=r"search 'py' exists with other settings: train\.epochs \(3, now 2"
    ):
        search("optim.lr=choice(1e-2,1e30)", "optim.clip=0", "train.epochs=2")
    with pytest.raises(PenstockError, match=r"ranges\.optim\.lr .*searcher"):
        search("optim.lr=log(1e-3,1e-2)", "optim.clip=0", searcher="random")
    with pytest.raises(RunFailed, match="search 'bad': no trial has a result; the first one: run 'bad-0'"):
        search("optim.lr=choice(1e30,1e31)", "optim.clip=0", name="bad")
    fresh = search(trials=2, fresh=True)
    assert fresh.version == result.version + 1
    assert {event["event"] for event in events} >= {"trial"}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scheduler", ["asha", "pbt"])
def test_a_search_is_killed_at_each_of_ten_trials(
    scheduler: str, store: Store, figures: Callable[[dict[str, object]], None]
) -> None:
    began = time.monotonic()
    with searching(store, scheduler, "--scheduler", scheduler, "--trials", "10") as search:
        for trial in range(10):
            search.wait("reached", trial + 1)
            search.kill()
            search.start()
        result = search.result(900)
        check_whole(search, result, store, 10)
    figures(
        {
            "kills": len(search.kills),
            "finished trials trained again": len(search.trained_twice()),
            "steps": result["steps"],
            "seconds": round(time.monotonic() - began),
        }
    )


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_killed_worker_costs_no_trial(store: Store, figures: Callable[[dict[str, object]], None]) -> None:
    # one process trains, one trial after the other: the one that dies is at work
    words = ("--trials", "4", "--scheduler", "none", "--cpus", "1", "train.epochs=150")
    killed = []
    with searching(store, "worker", *words) as search:
        for ended in range(3):
            search.until(f"trial {ended} at work", lambda: search.training() == [f"worker-{ended}"])  # noqa: B023
            search.kill_process("ray::ResourceTrainable.train")  # Tune's name for what it was given
            killed.append(len(search.records("reached")))
            search.wait("reached", ended + 1)
        result = search.result(600)
        check_whole(search, result, store, 4)
    assert killed == [0, 1, 2], "a trial had ended before its process was killed"
    assert [row["state"] for row in result["trials"]] == ["finished"] * 4
    attempts = [len(Run.open(store, row["run"]).attempts) for row in result["trials"]]
    figures({"workers killed": 3, "attempts of each trial": attempts})
    assert attempts == [2, 2, 2, 1]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_trials_of_two_workers_each(store: Store, figures: Callable[[dict[str, object]], None]) -> None:
    """Two of them train side by side; what becomes of one is not the other's affair."""
    began = time.monotonic()
    words = ("--trials", "4", "--workers", "2", "--cpus", "4", "--scheduler", "none", "train.epochs=200")
    with searching(store, "two", *words) as search:
        search.until("two trials at work", lambda: len(search.training()) == 2)
        search.kill_process("ray::TrainController")
        search.wait("reached", 2)
        of_first = [len(Run.open(store, f"two-{number}").attempts) for number in range(2)]
        search.kill()
        search.start()
        result = search.result(900)
        check_whole(search, result, store, 4)
    assert sorted(of_first) == [1, 2], "a controller's death is an attempt of its own trial's, of no other"
    for row in result["trials"]:
        assert {attempt["workers"] for attempt in Run.open(store, row["run"]).attempts} == {2}
    figures({"trials": 4, "workers": 2, "seconds": round(time.monotonic() - began)})
