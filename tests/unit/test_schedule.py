"""What ASHA and PBT decide, from what is recorded alone."""

from __future__ import annotations

import math

from penstock.tuning.ledger import Trial, best_trial
from penstock.tuning.schedule import Asha, Fork, Job, Pbt, Whole, populations, rungs
from penstock.workload import Choice, Goal, Span

MAX, MIN = Goal("accuracy", "max"), Goal("rmse", "min")
SPACE = {"optim.lr": Span(1e-4, 1e-1, log=True), "model.width": Choice((4, 8))}


def trials(*values: list[float], length: int = 9) -> dict[int, Trial]:
    """Trials with these validations."""
    return {
        number: Trial(number, {"optim.lr": 0.01 + number / 1000, "model.width": 4}, f"s-{number}", list(each))
        for number, each in enumerate(values)
    }


def test_rungs_are_thirds_of_the_whole() -> None:
    assert rungs(1) == [1]
    assert rungs(2) == [1, 2]
    assert rungs(9) == [1, 3, 9]
    assert rungs(12) == [1, 2, 4, 12]
    assert rungs(100) == [4, 12, 34, 100]


def test_without_a_scheduler_every_trial_is_trained_to_its_end() -> None:
    known = trials([0.1] * 9, [])
    known[0].finished = True
    assert Whole(9).next(known, [3], []) == Job(1, 9)
    assert Whole(9).next(known, [3], [1]) == Job(2, 9)
    assert Whole(9).next(known, [3], [1, 2]) is None


def test_asha_starts_trials_until_a_third_of_a_rung_can_go_on() -> None:
    asha = Asha(9, MAX)
    assert asha.next({}, [9], []) == Job(0, 1)
    assert asha.next(trials([0.5], [0.9]), [9], []) == Job(2, 1)
    # of three the best one is promoted before anything new begins
    assert asha.next(trials([0.5], [0.9], [0.7]), [9], []) == Job(1, 3)
    # it is being trained: the next free worker starts a new trial
    assert asha.next(trials([0.5], [0.9], [0.7]), [9], [1]) == Job(3, 1)


def test_asha_looks_at_the_highest_rung_first_and_compares_at_the_rung() -> None:
    asha = Asha(9, MAX)
    # three stand at 3 validations; what counts there is the best up to it
    known = trials([0.1, 0.9, 0.2], [0.8, 0.8, 0.8], [0.1, 0.2, 0.3], [0.7], [0.6])
    assert asha.next(known, [5], []) == Job(0, 9)
    known[0].values += [0.95] * 6
    known[0].finished = True
    assert asha.next(known, [5], []) is None  # 5 // 3 = 1 of the lowest rung, and that one went on
    assert asha.next(known, [6], []) == Job(5, 1)


def test_asha_minimises_and_passes_over_failures_and_undefined_values() -> None:
    asha = Asha(9, MIN)
    known = trials([0.5], [math.nan], [0.7], [0.1])
    known[3].why = "no"
    assert asha.next(known, [4], []) == Job(0, 3)


def test_asha_is_the_same_in_any_order_of_records() -> None:
    known = trials(*[[(7 * number % 11) / 11] for number in range(11)])
    turned = dict(reversed(list(known.items())))
    assert Asha(9, MAX).next(known, [11], []) == Asha(9, MAX).next(turned, [11], [])


def test_pbt_waits_for_a_generation_and_replaces_its_worst_quarter() -> None:
    pbt = Pbt(4, MAX, SPACE, seed=0)
    assert pbt.ends == [1, 2, 3, 4]
    assert pbt.next({}, [4], []) == Job(0, 1)
    assert pbt.next(trials([0.1], [0.2], [0.3]), [4], []) == Job(3, 1)
    assert pbt.next(trials([0.1], [0.2], [0.3]), [4], [3]) is None
    known = trials([0.1], [0.2], [0.3], [0.4])
    (fork,) = pbt.forks(known, [4])
    assert (fork.trial, fork.source, fork.after) == (0, 3, 1)
    assert fork.settings["model.width"] == 4  # the shape is the winner's
    assert fork.settings["optim.lr"] != known[3].settings["optim.lr"]
    assert pbt.forks(known, [4]) == [fork]  # decided again it is the same
    known[0].forks[1] = 3
    assert pbt.forks(known, [4]) == []
    assert pbt.next(known, [4], []) == Job(0, 2)


def test_pbt_judges_by_the_last_generation_and_not_after_the_last_one() -> None:
    pbt = Pbt(2, MAX, SPACE, seed=0)
    known = trials([0.9], [0.2])
    assert [(one.trial, one.source) for one in pbt.forks(known, [2])] == [(1, 0)]
    known = trials([0.9, 0.1], [0.2, 0.3])
    assert pbt.forks(known, [2]) == []
    assert pbt.next(known, [2], []) is None
    three = Pbt(3, MAX, SPACE, seed=0)
    assert [(one.trial, one.source) for one in three.forks(known, [2])] == [(0, 1)]


def test_a_failure_later_on_changes_no_decision_that_was_made() -> None:
    pbt = Pbt(4, MAX, SPACE, seed=0)
    known = trials([0.1], [0.2], [0.3], [0.4], [0.5], [0.6], [0.7], [0.8])
    before = pbt.forks(known, [8])
    assert [one.trial for one in before] == [1, 0]
    for fork in before:
        known[fork.trial].forks[1] = fork.source
    known[7].why = "its process died"
    assert pbt.forks(known, [8]) == []
    assert pbt.next(known, [8], []) == Job(0, 2)


def test_trials_asked_for_later_are_a_population_of_their_own() -> None:
    assert populations([2, 5]) == [(0, 2), (2, 5)]
    pbt = Pbt(2, MAX, SPACE, seed=0)
    known = trials([0.1, 0.9], [0.2, 0.8], [0.3], [0.4], [0.5])
    forks = pbt.forks(known, [2, 5])
    assert [(one.trial, one.source) for one in forks] == [(2, 4)]
    assert all(isinstance(one, Fork) for one in forks)


def test_the_best_is_the_best_validation_of_any_trial() -> None:
    assert best_trial({}, MAX) is None
    known = trials([0.5, 0.4], [0.5], [math.nan], [0.9])
    known[3].why = "no"
    best = best_trial(known, MAX)
    assert best is not None and best.number == 0
    lowest = best_trial(known, MIN)
    assert lowest is not None and lowest.number == 0
