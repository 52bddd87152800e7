"""Go: learning from records, and what learns from self-play, without RLlib around it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from penstock.config import Optim, Train
from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.errors import ConfigError
from penstock.rl.rating import Ratings, estimate
from penstock.rl.ring import FEWEST, Ring
from penstock.store import Store
from tests.gomodel import SCHEMA, SMALL, weights_of
from tests.learning import goes_on_bit_for_bit, learn
from workloads.go import workload
from workloads.go.arena import rated
from workloads.go.board import Rules, boards
from workloads.go.config import Config, Data, Zero
from workloads.go.games import UNKNOWN, outcome_of, positions, row_of
from workloads.go.greedy import GreedyPlayer
from workloads.go.planes import KOMI, observe
from workloads.go.selfplay import SelfPlayer
from workloads.go.symmetries import symmetries
from workloads.go.task import RecordsTask, batch_of
from workloads.go.zero import ZeroTask

RECORDS = replace(
    SMALL,
    trainer="records",
    data=Data(games=40, matches=1),
    optim=Optim(lr=5e-3, warmup_steps=2),
    train=Train(epochs=2, batch=8, checkpoint_every=3, publish="last"),
)
TINY = Zero(sizes=(3,), boards=6, plies=6, visits=6, fast=3, considered=4, opening=2, capacity=1000)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    store = Store.open(tmp_path_factory.mktemp("go"))
    return prepare(workload, "synthetic", RECORDS.data, store, mapper=in_process)


# ---------------------------------------------------------------- records


def test_a_killed_run_on_records_ends_with_the_same_bits(dataset: Dataset, store: Store) -> None:
    home = Store.open(dataset.path.parent.parent)
    goes_on_bit_for_bit(workload, RECORDS, dataset, home)


def test_records_teach_the_moves_of_their_player(dataset: Dataset) -> None:
    home = Store.open(dataset.path.parent.parent)
    taught = replace(RECORDS, train=Train(epochs=24, batch=8, validate_every=12, publish="last"))
    _, run = learn(workload, taught, dataset, home, "taught")
    first, last = (line["validation"] for line in run.metrics.validations())
    assert last["log_loss"] < first["log_loss"] and last["accuracy"] > 0.28  # chance has 0.23
    curve = run.metrics.loss_curve()
    assert curve[-5:].mean() < 0.92 * curve[:5].mean()


def test_positions_of_a_record_are_those_of_the_game() -> None:
    row = row_of(b"(;SZ[5]KM[2.5]AB[cc][dd]AW[bb]RE[B+4.5];W[aa];W[ba];B[];W[ee])")
    (seen,) = positions([row], [np.array([0, 2, 3])])
    assert (row["winner"], row["margin"]) == (1, 4.5)
    assert seen.played.tolist() == [0, 25, 24] and seen.side.tolist() == [-1, 1, -1]
    own = seen.planes[:, 0] - seen.planes[:, 1]
    assert own[0].sum() == 1 - 2 and own[1].sum() == 2 - 3 and own[2].sum() == 3 - 2
    assert seen.planes[:, 10, 0, 0].tolist() == pytest.approx([2.5 / KOMI, -2.5 / KOMI, 2.5 / KOMI])
    assert seen.legal.shape == (3, 26) and not seen.legal[0, 12] and seen.legal[0, 25]


@pytest.mark.parametrize(
    ("result", "winner", "margin"),
    [("B+3.5", 1, 3.5), ("W+R", -1, math.nan), ("w+12", -1, -12.0), ("0", 0, 0.0), ("Draw", 0, 0.0)],
)
def test_results_are_read_as_sgf_has_them(result: str, winner: int, margin: float) -> None:
    found = outcome_of(result)
    assert found[0] == winner and (found[1] == margin or (math.isnan(found[1]) and math.isnan(margin)))
    assert outcome_of("?")[0] == outcome_of("Void")[0] == UNKNOWN


class Games(list[tuple[Any, np.random.Generator]]):
    """Stands for a batch of the platform."""


def test_games_of_several_sizes_are_a_batch_whose_parts_add_up() -> None:
    contents = (b"(;SZ[5]RE[B+1];B[bc];W[dd];B[cb])", b"(;SZ[7]RE[W+1];B[bc];W[ee])", b"(;SZ[5];B[bb])")
    rows = [row_of(content) for content in contents]
    task = RecordsTask(RECORDS, SCHEMA)
    task.module.load_state_dict(weights_of())

    def loss(*which: int) -> tuple[float, float]:
        batch = task.collate(Games((rows[n], np.random.default_rng(n)) for n in which))  # type: ignore[arg-type]
        assert [each.planes.shape[-1] for each in batch] == sorted({int(rows[n]["size"]) for n in which})
        total, weight = task.loss(batch)
        return float(total.detach()), weight

    whole, weight = loss(0, 1, 2)
    apart = [loss(n) for n in range(3)]
    assert weight == 6 == sum(each for _, each in apart)
    assert whole == pytest.approx(sum(each for each, _ in apart), rel=1e-5)


def test_a_record_s_move_is_turned_with_its_board() -> None:
    row = row_of(b"(;SZ[5]RE[B+1];B[bc];W[dd];B[cb])")
    (seen,) = positions([row], [np.arange(3)])
    batch = batch_of(5, [(row, seen, np.array([3, 5, 7]))])
    way = symmetries(5, 5)[5]
    assert np.flatnonzero(batch.planes[1, 1].numpy()).tolist() == [way[11]]  # Black's stone is the enemy's
    assert int(batch.played[1]) == way[18] and bool(batch.legal[1][way[18]])
    assert not bool(batch.legal[1][way[11]]) and batch.winner.tolist() == [1, 0, 1]


def test_collating_nothing_gives_an_empty_batch_with_a_loss(dataset: Dataset) -> None:
    task = RecordsTask(RECORDS, dataset.schema)
    batch = task.collate(Items(dataset.train, [], ItemDraws(0, 0)))
    assert [len(each.planes) for each in batch] == [0]
    total, weight = task.loss(batch)
    assert weight == 0 and float(total.detach()) == 0
    total.backward()


def test_the_greedy_player_takes_saves_and_threatens() -> None:
    board = boards(Rules(5, 5, 0.5))
    for move in (7, 12, 11, 0, 13, 4):  # Black round White's middle stone, one liberty is left
        board.step([move])
    assert GreedyPlayer().best(board, 0).tolist() == [17]
    board.step([20])
    assert GreedyPlayer().best(board, 0).tolist() == [17]  # White flees there


# ---------------------------------------------------------------- self-play


def test_self_play_brings_rows_that_fit_their_games() -> None:
    torch.manual_seed(0)
    task = ZeroTask(replace(SMALL, zero=TINY), SCHEMA)
    actor = task.actor((0, 1))
    found = [actor.play(0.0) for _ in range(8)]
    assert {one.kind for one in found} == {"3x3"}
    rows = {name: np.concatenate([one.rows[name] for one in found if one.rows]) for name in found[-1].rows}
    count = len(rows["value"])
    assert count > 30 and sum(one.facts["games"] for one in found) > 10
    assert rows["planes"].shape[1:] == (10, 3, 3) and rows["planes"].max() == 1
    assert np.allclose(rows["policy"].astype(float).sum(1), 1, atol=0.02)
    occupied = (rows["planes"][:, 0] + rows["planes"][:, 1]).reshape(count, -1) > 0
    assert not (rows["policy"][:, :-1] * occupied).any()
    assert (np.sign(rows["score"]) == rows["value"]).all()
    black = rows["planes"][:, 9, 0, 0] == 1
    komi = np.where(black, -1, 1) * rows["komi"] * KOMI
    area = np.where(black, 1, -1) * rows["ownership"].reshape(count, -1).sum(1)
    assert np.allclose(np.where(black, 1, -1) * rows["score"], area - komi, atol=1e-4)
    assert np.allclose(komi, np.rint(komi), atol=1e-4) and len(set(komi.round())) > 2


def test_self_play_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    def rows(seed: int) -> Any:
        torch.manual_seed(0)
        actor = SelfPlayer(TINY, ZeroTask(replace(SMALL, zero=TINY), SCHEMA).module, (seed, 1))
        return [one.rows["policy"] for one in (actor.play(0.0) for _ in range(4)) if one.rows]

    one, same, other = rows(0), rows(0), rows(1)
    assert all(np.array_equal(*pair) for pair in zip(one, same, strict=True)) and len(one) == len(same)
    assert len(one) != len(other) or not all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


def test_the_curriculum_changes_boards_at_its_shares() -> None:
    zero = replace(TINY, sizes=(3, 4), shares=(0.25, 0.75))
    actor = ZeroTask(replace(SMALL, zero=zero), SCHEMA).actor((0, 0))
    assert [actor.play(done).kind for done in (0.0, 0.2, 0.3, 1.0)] == ["3x3", "3x3", "4x4", "4x4"]


def test_a_position_and_its_targets_are_turned_together() -> None:
    task = ZeroTask(SMALL, SCHEMA)
    board = boards(Rules(5, 5, 2.0))
    for move in (7, 3, 11):
        board.step([move])
    planes = observe(board)
    policy = np.linspace(0, 1, 26, dtype=np.float32)[None]
    owned = board.ownership() * board.to_play[0]
    row = {
        "planes": planes[:, :-1].astype(np.uint8),
        "komi": planes[:, -1, 0, 0],
        "policy": policy.astype(np.float16),
        "value": np.array([1], np.int8),
        "score": np.array([3.0], np.float32),
        "ownership": owned,
    }
    many = {name: np.repeat(values, 64, 0) for name, values in row.items()}
    batch = task.batch(many, np.random.default_rng(0))
    ways = symmetries(5, 5)
    seen = set()
    for n in range(64):
        (way,) = (w for w in range(8) if np.allclose(batch["policy"][n][ways[w]], policy[0], atol=1e-3))
        seen.add(way)
        assert np.array_equal(
            batch["planes"][n].reshape(11, -1)[:, ways[way][:-1]], planes[0].reshape(11, -1)
        )
        assert np.array_equal(batch["ownership"][n].ravel()[ways[way][:-1]], owned.ravel())
    assert seen == set(range(8))


def test_the_loss_of_self_play_falls_on_what_is_shown_to_it() -> None:
    torch.manual_seed(0)
    task = ZeroTask(replace(SMALL, zero=TINY), SCHEMA)
    actor, ring, rng = task.actor((0, 1)), Ring(1000), np.random.default_rng(0)
    while len(ring) < 64:
        found = actor.play(0.0)
        ring.add(found.kind, found.rows)
    rows = {name: torch.from_numpy(each) for name, each in task.batch(ring.draw(64, rng), rng).items()}
    optimiser = torch.optim.Adam(task.module.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        parts = task.loss(rows)
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        losses.append({name: float(value.detach()) for name, value in parts.items()})
    assert set(losses[0]) == {"loss", "policy", "value", "ownership", "score"}
    for name in losses[0]:
        assert losses[-1][name] < losses[0][name], name


# ---------------------------------------------------------------- the ring and the ratings


def rows_of(start: int, count: int) -> dict[str, Any]:
    return {"x": np.arange(start, start + count), "y": np.ones((count, 2), np.float16)}


def test_the_ring_keeps_the_newest_and_forgets_another_kind() -> None:
    ring = Ring(10)
    assert ring.add("a", rows_of(0, 7)) == 7 and ring.add("a", rows_of(7, 6)) == 6 and len(ring) == 10
    assert sorted(ring.columns["x"].tolist()) == list(range(3, 13))
    drawn = ring.draw(500, np.random.default_rng(0))
    assert set(drawn["x"].tolist()) == set(range(3, 13)) and drawn["y"].dtype == np.float16
    again = Ring(10)
    again.load(ring.state())
    assert again.add("a", rows_of(13, 2)) == 2
    assert sorted(again.columns["x"].tolist()) == list(range(5, 15))
    ring.add("b", rows_of(0, 1))
    assert len(ring) == 1 and ring.add("b", {}) == 0


def test_the_ring_draws_from_the_newest_share() -> None:
    ring = Ring(4 * FEWEST)
    for start in range(0, 2 * FEWEST, FEWEST):
        ring.add("a", rows_of(start, FEWEST))
    drawn = ring.draw(5000, np.random.default_rng(0))["x"]
    assert drawn.min() >= 0.4 * 2 * FEWEST - 1 and drawn.max() > 1.99 * FEWEST


def test_elo_is_the_likeliest_and_finite() -> None:
    elo, low, high = estimate([(0.75, 400, 100.0)])
    assert elo == pytest.approx(100 + 400 * math.log10(3), abs=3) and low < elo < high
    wide = estimate([(0.75, 20, 100.0)])
    assert wide[1] < low and high < wide[2]
    assert math.isfinite(estimate([(1.0, 40, 0.0)])[0]) and estimate([(1.0, 40, 0.0)])[0] > 300
    both = estimate([(0.5, 100, 0.0), (0.5, 100, 200.0)])[0]
    assert both == pytest.approx(100, abs=3)


def test_past_selves_survive_a_kill_while_one_is_written(tmp_path: Path) -> None:
    """Also those that a run has not reached again yet are forgotten."""

    class Equal:
        def rate(self, weights: Any, past: Any, seed: int) -> list[tuple[float, int]]:
            return [(0.75, 40) for _ in past]

    run = SimpleNamespace(path=tmp_path, spec=SimpleNamespace(seed=0))
    ratings = Ratings(run, Equal(), 0)  # type: ignore[arg-type]
    assert ratings.rate(weights_of(), 3)["elo"] == 0 and ratings.rate(weights_of(), 6)["elo"] > 100
    (tmp_path / "selves" / ".tmp-1-0123456789ab").write_bytes(b"half")
    again = Ratings(run, Equal(), 3)  # type: ignore[arg-type]
    assert {path.name for path in again.folder.glob("0*")} == {"00000003.safetensors", "00000003.elo"}


def test_a_rating_plays_both_colours_and_a_copy_is_equal() -> None:
    """Each game of a pair is the same game with the sides changed: what one wins the other loses."""
    config = replace(SMALL, data=Data(size=4, komi=0.5, matches=6))
    mine = weights_of()
    ((share, games),) = rated(config, mine, [mine], 3)
    assert (share, games) == (0.5, 12)
    ((other, _),) = rated(config, mine, [weights_of(seed=1)], 3)
    ((back, _),) = rated(config, weights_of(seed=1), [mine], 3)
    assert other == pytest.approx(1 - back)


def test_impossible_settings_are_refused() -> None:
    for wrong, says in (
        ({"sizes": (5, 7)}, "a share for each size is needed"),
        ({"sizes": (5,), "shares": (0.5,)}, "1 in all"),
        ({"sizes": (1,), "shares": (1.0,)}, "boards of 2 to 19"),
        ({"visits": 1}, "zero.visits = 1: 2 to 2000 are possible"),
        ({"full": 0.0}, "zero.full = 0.0"),
    ):
        with pytest.raises(ConfigError, match=says):
            Zero(**wrong)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"train\.precision = 'bf16': only trainer = records has it, not zero"
    ):
        Config(train=Train(precision="bf16"))
    assert Config(trainer="records", train=Train(precision="bf16")).trainer == "records"
