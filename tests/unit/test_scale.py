"""The simulation behind deploy/SCALING.md against closed forms, and how `bench train` counts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import lambertw

from penstock.benchmarks.train import Step, shown, sides, summary
from penstock.data.order import permutation, steps_per_epoch
from tests.benchmarks.scale import (
    Network,
    Plan,
    Saving,
    daly_s,
    expected_goodput,
    flat_s,
    halving_s,
    harmonic,
    hierarchical_s,
    lane_window,
    ring_s,
    simulate,
    slowest_s,
    table,
    young_s,
)
from tests.command import Finished

M, C, R = 10_000.0, 40.0, 120.0  # seconds between failures, of a save, of a restart


def many(interval_s: float, failures: int = 20_000) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.full(int(failures * M / interval_s), interval_s)


def test_without_failures_only_saving_costs() -> None:
    work = np.full(1000, 60.0)
    assert simulate(work, Saving(5.0), 1e15, R, 0) == pytest.approx(60 / 65)
    assert simulate(work, Saving(5.0, commit_s=30.0), 1e15, R, 0) == pytest.approx(60 / 65)
    # a save that takes longer than an interval makes the next one wait, all but the first
    waiting = 60 * 1000 / (65 + 999 * 95)
    assert simulate(work, Saving(5.0, commit_s=90.0), 1e15, R, 0) == pytest.approx(waiting)


@pytest.mark.parametrize("interval_s", [200.0, 900.0, 4000.0])
def test_with_failures_it_is_daly_s_formula(interval_s: float) -> None:
    lost = 1 - expected_goodput(interval_s, C, M, R)
    assert 1 - simulate(many(interval_s), Saving(C), M, R, 0) == pytest.approx(lost, rel=0.03)


def test_what_is_not_committed_yet_is_lost() -> None:
    """To first order a commit that takes W beside training costs W / M more."""
    work = many(1000.0)
    at_once = simulate(work, Saving(C), M, R, 0)
    later = simulate(work, Saving(C, commit_s=500.0), M, R, 0)
    assert (at_once - later) / at_once == pytest.approx(500 / M, rel=0.15)


def test_the_best_interval_is_young_s_and_daly_s() -> None:
    # exactly: 1 + W(-e^(-C/M - 1)) in units of M, where the closed form's derivative is 0
    exact = M * float(1 + lambertw(-math.exp(-C / M - 1)).real)
    assert young_s(C, M) == pytest.approx(exact, rel=0.05)
    assert daly_s(C, M) == pytest.approx(exact, rel=0.002)
    assert daly_s(3 * M, M) == M
    found = {f: simulate(many(exact * f, 60_000), Saving(C), M, R, 0) for f in (0.4, 0.7, 1.0, 1.5, 2.5)}
    assert max(found, key=found.__getitem__) == 1.0


def test_a_run_that_hardly_ever_gets_to_save_is_hopeless() -> None:
    assert simulate(np.full(5, 30 * M), Saving(C), M, R, 0) == 0.0


def test_a_simulation_can_be_repeated() -> None:
    work = many(500.0, 200)
    assert simulate(work, Saving(C), M, R, 7) == simulate(work, Saving(C), M, R, 7)
    assert simulate(work, Saving(C), M, R, 7) != simulate(work, Saving(C), M, R, 8)


@pytest.mark.parametrize("workers", [1, 8, 1000])
def test_the_slowest_of_n_is_h_n_means_late(workers: int) -> None:
    draw = np.random.default_rng(0)
    slow = slowest_s(2.0, 0.1, workers, 1 - draw.random(100_000))
    assert slow.mean() == pytest.approx(2.0 * (1 + 0.1 * harmonic(workers)), rel=0.005)
    assert slow.var() == pytest.approx((2.0 * 0.1) ** 2 * harmonic(workers, 2), rel=0.05)
    direct = 2.0 * (1 + 0.1 * draw.exponential(size=(2000, workers)).max(axis=1))
    assert np.median(direct) == pytest.approx(np.median(slow), rel=0.02)


def test_sums_over_the_network_by_hand() -> None:
    assert ring_s(8e9, 4, 1e-3, 1e9) == pytest.approx(6 * (1e-3 + 2.0))
    assert halving_s(8e9, 4, 1e-3, 1e9) == pytest.approx(4e-3 + 12.0)
    assert ring_s(8e9, 1, 1e-3, 1e9) == halving_s(8e9, 1, 1e-3, 1e9) == 0.0
    net = Network(1e-5, 2e9, 12e9)
    assert flat_s(1e9, 8, 8, net, net) == hierarchical_s(1e9, 8, 8, net, net)  # one node
    # inside first: 8 messages of an eighth; then 125 nodes, eight connections on each port
    inside = Network(1e-6, 20e9, 20e9)
    by_hand = 14 * (1e-6 + 1e9 / 8 / 20e9) + 14e-5 + 2 * 1e9 / 8 * 124 / 125 / 1.5e9
    assert hierarchical_s(1e9, 1000, 8, inside, net) == pytest.approx(by_hand)
    assert by_hand < flat_s(1e9, 1000, 8, inside, net) == pytest.approx(2 * 999 * (1e-5 + 1e6 / 2e9))


def test_sums_beside_the_backward_pass_show_only_where_they_take_longer() -> None:
    plain, beside = Plan("after"), Plan("beside", overlaps=True)
    assert plain.step(64) - beside.step(64) == pytest.approx(2 / 3)
    quick = Plan("quick", overlaps=True, gradients=1e6)
    computes = 1 + quick.spread * harmonic(64)
    assert quick.step(64) == pytest.approx(computes + quick.reading_s(64))
    assert Plan("ahead", overlaps=True, gradients=1e6, ahead=True).step(64) == pytest.approx(computes)


def test_alone_nothing_is_lost_but_saves_and_restarts() -> None:
    alone = Plan("alone", spread=0.0, reads=0.0, node_mtbf_s=1e12)
    assert alone.goodput(1, 1000.0) == pytest.approx(1000 / (1000 + alone.saving(1).stall_s), rel=1e-4)


def test_lanes_show_every_item_once_whatever_the_number_of_workers() -> None:
    blocks, rows, lanes, window = 50, 7, 4, 3
    shown_by = {
        lane: np.concatenate(
            [
                lane_window(1, 2, blocks, rows, lanes, lane, window, which)
                for which in range(math.ceil(len(permutation(1, 2, blocks)[lane::lanes]) / window))
            ]
        )
        for lane in range(lanes)
    }
    assert sorted(np.concatenate(list(shown_by.values()))) == list(range(blocks * rows))
    read = [set(items // rows) for items in shown_by.values()]
    assert sum(map(len, read)) == blocks  # no block is read by two lanes
    again = lane_window(1, 2, blocks, rows, lanes, 3, window, 1)
    assert np.array_equal(again, lane_window(1, 2, blocks, rows, lanes, 3, window, 1))
    assert not np.array_equal(again, lane_window(1, 3, blocks, rows, lanes, 3, window, 1))


def test_a_table_is_markdown() -> None:
    assert table(["a", "b"], [[1, "x"]]).splitlines() == ["| a | b |", "| --- | --- |", "| 1 | x |"]


# ---------------------------------------------------------------- penstock bench train --workers 1,2


def test_items_are_counted_with_the_short_batch_of_each_epoch() -> None:
    for items, batch in ((10, 4), (8, 4), (3, 4), (100, 7)):
        per_epoch = steps_per_epoch(items, batch)
        sizes = [min(batch, items - k * batch) for _ in range(3) for k in range(per_epoch)]
        for steps in range(3 * per_epoch):
            assert shown(steps, items, batch) == sum(sizes[:steps])


def test_scaling_is_items_a_second_over_items_a_second() -> None:
    rounds = {
        ("ours", 1): [Step(1.0, 1.0), Step(1.0, 1.1)],
        ("bare", 1): [Step(0.9, 0.8), Step(0.9, 1.0)],
        ("ours", 2): [Step(0.5, 0.6), Step(0.5, 0.6)],
        ("bare", 2): [Step(0.5, 0.5), Step(0.5, 0.5)],
        ("apart", 2): [Step(0.5, 0.4), Step(0.5, 0.5)],
    }
    found = summary(rounds, [1, 2], 32.0, 50, (0.0, 0.0))
    ours = found["scaling, ours, workers: 1 to 2"]
    assert ours.value == pytest.approx((1.0 / 0.6 + 1.1 / 0.6) / 2)
    assert (ours.median_a, ours.unit) == (pytest.approx(32 / 0.6), "items/s")
    assert found["scaling, bare, workers: 1 to 2"].value == pytest.approx((1.6 + 2.0) / 2)
    assert found["scaling, apart, workers: 1 to 2"].value == pytest.approx(2.0)
    assert found["train_cpu, workers: 1"].value == pytest.approx(1 / 0.9)
    assert found["train_wall, workers: 2"].value == pytest.approx(1.2)
    alone = summary({each: rounds[each] for each in rounds if each[1] == 1}, [1], 32.0, 50, (0.0, 0.0))
    assert set(alone) == {"train_cpu, workers: 1", "train_wall, workers: 1"}


def test_workers_apart_are_measured_where_two_numbers_are_compared() -> None:
    assert sides(2, True) == ["ours", "bare", "apart"]
    assert sides(1, True) == sides(2, False) == ["ours", "bare"]


@pytest.mark.parametrize("words", ["1,1", "0,1", "1,x", "", "1;2", "-1"])
def test_numbers_of_workers_are_read_or_refused(words: str, cli: Callable[..., Finished]) -> None:
    said = cli("bench", "train", "toy", f"--workers={words}").error
    assert said == f"penstock: --workers {words!r}: write numbers such as 1,2, each once"
