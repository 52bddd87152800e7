"""Who hangs, and who only waits for the one that does; who is slow."""

from __future__ import annotations

import pytest

from penstock.cli.progress import SAYINGS
from penstock.training.health import TIMES, Beat, Pulse, hung
from penstock.training.stragglers import LOOKS, STEPS, Stragglers


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def in_a_step(still_s: float, meetings: int = 7, waits: bool = False, **more: float) -> Beat:
    return Beat(steps=5, meetings=meetings, waits=waits, stepping=True, still_s=still_s, **more)


def test_a_pulse_counts_its_own_work_and_not_the_waiting() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    for work_s in (50.0, 2.0, 3.0):  # the first step warms up
        pulse.begin_step()
        clock.now += work_s
        with pulse.meeting():
            clock.now += 10
        pulse.end_step()
        clock.now += 7  # validation
    beat = pulse.read()
    assert (beat.steps, beat.meetings, beat.busy_s, beat.longest_s) == (3, 3, 5.0, 3.0)
    assert not beat.stepping and not beat.waits and beat.still_s == 7.0


def test_who_waits_for_another_is_not_hung() -> None:
    beats = {rank: in_a_step(61, meetings=8, waits=True) for rank in range(3)} | {3: in_a_step(61)}
    assert hung(beats, 60) == [3]
    assert hung(beats, 62) == []


def test_a_lone_worker_can_hang_too() -> None:
    assert hung({0: in_a_step(61)}, 60) == [0]
    assert hung({}, 60) == []


def test_all_wait_for_each_other_and_none_will_go_on() -> None:
    assert hung({rank: in_a_step(61, waits=True) for rank in range(2)}, 60) == [0, 1]


def test_steps_that_take_long_are_given_their_time() -> None:
    slow = {0: in_a_step(100, longest_s=10.0), 1: in_a_step(100, meetings=8, waits=True)}
    assert hung(slow, 60) == []
    later = {0: in_a_step(10 * TIMES + 1, longest_s=10.0), 1: in_a_step(0, meetings=8, waits=True)}
    assert hung(later, 60) == [0]


@pytest.mark.parametrize("where", [{"steps": 0, "stepping": True}, {"steps": 5, "stepping": False}])
def test_a_first_step_and_what_lies_between_steps_may_take_far_longer(where: dict[str, int]) -> None:
    assert hung({0: Beat(**where, still_s=60 * TIMES - 1)}, 60) == []  # type: ignore[arg-type]
    assert hung({0: Beat(**where, still_s=60 * TIMES + 1)}, 60) == [0]  # type: ignore[arg-type]


def test_a_worker_last_heard_of_before_its_first_step_has_taken_it_if_the_others_did() -> None:
    beats = {0: Beat(stepping=False, still_s=61), 1: in_a_step(61, waits=True)}
    assert hung(beats, 60) == [0]


def looks(step_s: dict[int, float], count: int, watch: Stragglers) -> list[tuple[int, float]]:
    found = []
    for number in range(count):
        steps = 10 * STEPS * number
        found += watch.look({rank: (steps, steps * seconds) for rank, seconds in step_s.items()})
    return [(slow.rank, round(slow.factor, 3)) for slow in found]


def test_one_that_is_slow_for_long_is_named_once_with_its_factor() -> None:
    assert looks({0: 1.0, 1: 1.0, 2: 2.2, 3: 1.1}, 10, Stragglers()) == [(2, 2.2)]
    assert looks({0: 1.0, 1: 2.0}, 10, Stragglers()) == [(1, 2.0)]


def test_nobody_is_slow_for_a_moment_or_by_a_little_or_alone() -> None:
    assert looks({0: 1.0, 1: 9.0}, LOOKS, Stragglers()) == []  # the first look only begins
    assert looks({0: 1.0, 1: 1.4, 2: 1.0}, 10, Stragglers()) == []
    assert looks({0: 9.0}, 10, Stragglers()) == []
    assert looks({0: 1e-5, 1: 9e-5}, 10, Stragglers()) == []  # too short to tell
    watch = Stragglers()
    for number in range(12):  # slow every second time
        own = 50.0 * number + (25 if number % 2 else 0)
        assert watch.look({0: (50 * number, 20.0 * number), 1: (50 * number, own)}) == []


def test_each_is_said_in_one_line() -> None:
    at = {"rank": 3, "node": "10.0.0.7 (a3c25807)"}
    line = SAYINGS["hung"].format(**at, seconds=121)
    assert (
        line
        == "worker 3 on node 10.0.0.7 (a3c25807) made no step for 121 s: killed, the run goes on without it"
    )
    line = SAYINGS["straggler"].format(**at, factor=2.21)
    assert line == "worker 3 on node 10.0.0.7 (a3c25807) is slow: 2.2 times the others' median step"
