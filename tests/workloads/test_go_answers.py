"""Go over the contract: what a model answers, what it refuses and why, how answers are scored."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from penstock.capabilities import Board as BoardCapability
from penstock.capabilities import Position
from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.evaluation.scoring import score
from penstock.store import Store
from penstock.workload import Refusal
from tests.gomodel import SMALL, model_of
from workloads.go import workload
from workloads.go.board import Rules, boards
from workloads.go.config import Data
from workloads.go.evaluate import GoEvaluator, played_out
from workloads.go.messages import GoAnswer, GoRequest
from workloads.go.notation import action_of
from workloads.go.predict import GoPredictor

KO = ["B3", "C3", "A2", "D2", "B1", "C1", "C2", "B2"]  # White has taken at B2; Black may not take back at C2


@pytest.fixture(scope="module")
def predictor() -> GoPredictor:
    return GoPredictor(model_of(), "cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    store = Store.open(tmp_path_factory.mktemp("go"))
    return prepare(workload, "synthetic", Data(games=30, matches=2), store, mapper=in_process)


def ask(predictor: GoPredictor, **asked: Any) -> GoAnswer:
    (answer,) = predictor.predict([GoRequest.model_validate(asked)])
    assert isinstance(answer, GoAnswer), answer
    return answer


def refused(predictor: GoPredictor, **asked: Any) -> Refusal:
    (answer,) = predictor.predict([GoRequest.model_validate(asked)])
    assert isinstance(answer, Refusal), answer
    return answer


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("visits", [0, 1, 12])
def test_an_answer_says_move_worth_line_and_what_stands(predictor: GoPredictor, visits: int) -> None:
    answer = ask(predictor, size=5, komi=0.5, moves=["C3", "C2", "D3"], visits=visits)
    assert answer.stones == [".....", ".....", "..XX.", "..O..", "....."] and answer.to_play == "white"
    assert answer.variation[0] == answer.move == answer.candidates[0].move
    assert sum(each.visits for each in answer.candidates) <= visits
    assert (max(each.visits for each in answer.candidates) > 0) == (visits > 0)
    assert 0 <= answer.win_rate <= 1 and math.isfinite(answer.score)
    assert np.shape(answer.ownership) == (5, 5) and np.abs(answer.ownership).max() <= 1
    assert not answer.over and answer.game is None and answer.review == []


def test_a_record_and_the_same_moves_get_the_same_answer(predictor: GoPredictor) -> None:
    moves = ask(predictor, size=5, komi=0.5, moves=["C3", "C2", "pass"])
    assert ask(predictor, sgf="(;SZ[5]KM[0.5];B[cc];W[cd];B[])") == moves


def test_a_request_that_is_written_out_in_full_means_the_same(predictor: GoPredictor) -> None:
    for asked in ({"sgf": "(;SZ[5]KM[0.5];B[cc])", "visits": 2}, {"moves": ["C3"], "visits": 0}):
        request = GoRequest.model_validate(asked)
        again = GoRequest.model_validate_json(request.model_dump_json())
        one, other = predictor.predict([request, again])
        assert one == other and isinstance(one, GoAnswer)


def test_ownership_is_blacks_whoever_moves(predictor: GoPredictor) -> None:
    """The network sees own and enemy's; of a position with colours swapped it sees the same but for two
    planes, which these weights are made to ignore."""
    model = model_of()
    stem = model.weights["stem.weight"]
    stem[:, 9:11] = 0
    blind = GoPredictor(model, "cpu")
    black = ask(blind, sgf="(;SZ[5]AB[cc]AW[bb]PL[B])", visits=0)
    white = ask(blind, sgf="(;SZ[5]AB[bb]AW[cc]PL[W])", visits=0)
    assert black.win_rate == white.win_rate and black.move == white.move
    assert np.allclose(black.ownership, -np.array(white.ownership))
    assert np.abs(black.ownership).max() > 0.01


def test_a_finished_game_is_scored_and_has_no_move(predictor: GoPredictor) -> None:
    answer = ask(predictor, size=3, komi=2.5, moves=["B2", "pass", "pass"])
    assert answer.over and answer.move is None and answer.variation == [] and answer.candidates == []
    assert answer.to_play == "white" and (answer.win_rate, answer.score) == (0.0, 2.5 - 9)
    assert answer.ownership == [[1.0] * 3] * 3


def test_symmetries_make_an_answer_symmetric(predictor: GoPredictor) -> None:
    plain, even = (ask(predictor, size=5, visits=0, symmetries=on) for on in (False, True))
    # images come in fours or eights, but for the middle
    different = {round(each.prior, 6) for each in even.candidates if each.move not in ("pass", "C3")}
    assert len(different) <= 4 < len({round(each.prior, 6) for each in plain.candidates})
    assert plain.candidates != even.candidates


def test_a_seed_varies_the_move_and_repeats_it(predictor: GoPredictor) -> None:
    drawn = [ask(predictor, size=5, visits=4, seed=seed).move for seed in range(12)]
    assert len(set(drawn)) > 2
    assert [ask(predictor, size=5, visits=4, seed=seed).move for seed in range(12)] == drawn


def test_company_changes_no_answer(predictor: GoPredictor) -> None:
    requests = [GoRequest(size=5, moves=["C3"]), GoRequest(size=9), GoRequest(size=5, moves=["C3", "Z9"])]
    together = predictor.predict(requests)
    assert [predictor.predict([request])[0] for request in requests] == together
    assert isinstance(together[2], Refusal) and not isinstance(together[1], Refusal)


def test_a_review_judges_each_move_before_it_was_played(predictor: GoPredictor) -> None:
    moves = ["C3", "pass", "B2", "D4"]
    review = ask(predictor, size=5, komi=0.5, moves=moves, review=True, visits=0).review
    assert len(review) == 4
    for number, move in enumerate(moves):
        before = ask(predictor, size=5, komi=0.5, moves=moves[:number], visits=0)
        assert review[number].best == before.move
        assert math.isclose(review[number].win_rate, before.win_rate, abs_tol=1e-5)
        prior = {each.move: each.prior for each in before.candidates}
        assert math.isclose(
            review[number].probability, prior.get(move, review[number].probability), abs_tol=1e-5
        )


@pytest.mark.parametrize("against", ["random", "greedy"])
def test_a_game_is_played_to_its_end_by_the_rules(predictor: GoPredictor, against: str) -> None:
    answer = ask(predictor, size=5, komi=0.5, moves=["C3"], against=against, visits=3)
    game = answer.game
    assert game is not None
    board = boards(Rules(5, 5, 0.5), 1, "numpy")
    for word in ("C3", *game.moves):
        board.step([action_of(word, 5, 5)])  # refuses what is illegal
    assert board.done[0] and game.moves[0] == answer.move
    black = float(np.sign(board.value()[0]))
    assert game.outcome == (1 - black) / 2 and game.result[0] == ("B" if black > 0 else "W")
    assert ask(predictor, size=5, komi=0.5, moves=["C3"], against=against, visits=3).game == game


def test_the_board_capability_tells_the_position_at_once(predictor: GoPredictor) -> None:
    assert isinstance(predictor, BoardCapability)
    position = predictor.position(GoRequest(size=4, komi=0.5, moves=KO))
    assert isinstance(position, Position)
    assert position.to_play == "black" and not position.over
    assert "C2" not in position.legal and "pass" in position.legal and "D4" in position.legal
    assert len(position.stones) == 4 and sum(map(sum, position.stones)) == 3 - 4
    assert isinstance(predictor.position(GoRequest(size=4, moves=["A1", "A1"])), Refusal)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("asked", "pointer", "says"),
    [
        ({"size": 5, "moves": ["C3", "C3"]}, "/moves/1", "move 2, C3: occupied (a stone is there)"),
        ({"size": 3, "moves": ["B1", "pass", "A2", "A1"]}, "/moves/3", "move 4, A1: suicide"),
        ({"size": 4, "moves": [*KO, "C2"]}, "/moves/8", "move 9, C2: superko (an earlier position"),
        ({"size": 5, "moves": ["F1"]}, "/moves/0", "vertex 'F1': A1 to E5 and pass are possible"),
        ({"size": 5, "moves": ["I1"]}, "/moves/0", "vertex 'I1'"),
        ({"size": 3, "moves": ["pass", "pass", "A1"]}, "/moves/2", "move 3, A1: over"),
        ({"sgf": "(;SZ[5]"}, "/sgf", "not SGF"),
        ({"sgf": "hello"}, "/sgf", "not SGF"),
        ({"sgf": "(;SZ[25];B[aa])"}, "/sgf", "SZ: a board of size 25; 1 to 19 are possible"),
        ({"sgf": "(;SZ[5]KM[nan];B[aa])"}, "/sgf", "KM"),
        ({"sgf": "(;SZ[5];B[aa];W[aa])"}, "/sgf", "move 2, A5: occupied"),
        ({"sgf": "(;SZ[5];B[zz])"}, "/sgf", "move 1"),
        ({"sgf": "(;SZ[5])", "moves": ["A1"]}, "/sgf", "a record has its own size"),
        ({"sgf": "(;SZ[5])", "komi": 3}, "/sgf", "a record has its own size"),
        ({"size": 19, "against": "random", "visits": 1000}, "/visits", "visits a move are possible here"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_reason(
    predictor: GoPredictor, asked: dict[str, Any], pointer: str, says: str
) -> None:
    refusal = refused(predictor, **asked)
    assert refusal.pointer == pointer and says in refusal.detail and "\n" not in refusal.detail


@pytest.mark.parametrize(
    "asked",
    [
        {"komi": float("nan")},
        {"komi": float("inf")},
        {"komi": 1e9},
        {"size": 0},
        {"size": 20},
        {"visits": -1},
        {"visits": 10**6},
        {"moves": ["A1"] * 2001},
        {"sgf": "x" * 60_001},
        {"superko": "situational"},
        {"against": "gnugo"},
        {"board": 3},
    ],
)
def test_what_is_out_of_range_is_no_request(asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GoRequest.model_validate(asked)


def test_a_move_that_only_simple_ko_allows_is_allowed_there(predictor: GoPredictor) -> None:
    """Two are sent and one returned: the position comes back after three plies."""
    asked = {"size": 4, "moves": [*KO, "D4", "A4", "C2"], "visits": 0}
    assert isinstance(ask(predictor, superko="simple", **asked), GoAnswer)


# ---------------------------------------------------------------- how answers are scored


def test_scoring_counts_right_moves_and_games_won(predictor: GoPredictor, dataset: Dataset) -> None:
    found = score(workload, model_of(), dataset.test)
    rows = list(dataset.test.rows(range(len(dataset.test))))
    games = [row for row in rows if row["opponent"]]
    assert len(games) == 2 * 2 * 2 and {row["opponent"] for row in games} == {"random", "greedy"}
    assert 0 <= found.metrics["accuracy"] <= 1 and 0 <= found.metrics["win_rate"] <= 1
    assert found.metrics["log_loss"] > 0.5  # it has not learned anything
    units = found.records["unit"].to_pylist()
    assert len({unit for unit, row in zip(units, rows, strict=True) if row["opponent"]}) == 2


def test_who_names_every_right_move_and_wins_has_the_best_score(dataset: Dataset) -> None:
    evaluator = GoEvaluator(SMALL, dataset.schema)
    rows = list(dataset.test.rows(range(len(dataset.test))))
    answers = GoPredictor(model_of(), "cpu").predict(evaluator.requests(rows))
    best = []
    for row, answer in zip(rows, answers, strict=True):
        assert isinstance(answer, GoAnswer)
        if row["opponent"]:
            assert answer.game is not None
            best.append(answer.model_copy(update={"game": answer.game.model_copy(update={"outcome": 1.0})}))
            continue
        record = GoRequest(sgf=row["sgf"].decode("latin-1"))
        assert record.sgf is not None
        right = json.loads(row["accepted"])
        size = 5
        review = [
            each.model_copy(update={"best": name(options[-1], size) if options else "A1"})
            for each, options in zip(answer.review, right, strict=True)
        ]
        best.append(answer.model_copy(update={"review": review}))
    found = evaluator.summarise(evaluator.records(rows, best))
    assert found["accuracy"] == found["win_rate"] == found["win_rate/greedy"] == 1.0
    wrong = evaluator.summarise(evaluator.records(rows, [Refusal("no")] * len(rows)))
    assert wrong["accuracy"] == wrong["win_rate"] == 0.0
    figures = evaluator.figures(evaluator.records(rows, best), rows[-12:], best[-12:])
    assert any(figure.svg for figure in figures) and any(figure.png[:4] == b"\x89PNG" for figure in figures)


def name(action: int, size: int) -> str:
    from workloads.go.notation import vertex

    return vertex(action, size, size)


def test_a_played_game_is_replayed_for_the_report(predictor: GoPredictor, dataset: Dataset) -> None:
    row = next(row for row in dataset.test.rows(range(len(dataset.test))) if row["opponent"] == "greedy")
    (answer,) = predictor.predict(GoEvaluator(SMALL, dataset.schema).requests([row]))
    assert isinstance(answer, GoAnswer)
    stones, _ = played_out(row, answer)
    assert stones.shape == (5, 5) and np.abs(stones).sum() > 10


def test_records_are_read_from_files_with_their_split(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.sgf").write_bytes(b"(;SZ[5]KM[0.5]RE[W+R];B[cc];W[bb];B[dd])")
    (folder / "train.txt").write_text("0.sgf\n1.sgf\n2.sgf\n")
    (folder / "test.txt").write_text("3.sgf\n")
    store = Store.open(tmp_path / "store")
    made = prepare(workload, f"sgf:{folder}", Data(matches=1, validation=0.5), store, mapper=in_process)
    row = next(iter(made.train.rows([0])))
    assert (row["size"], row["winner"], row["komi"]) == (5, -1, 0.5) and math.isnan(row["margin"])
    assert row["actions"].tolist() == [12, 6, 18] and row["colours"].tolist() == [1, -1, 1]
    assert made.counts["train"] == 3
    (folder / "2.sgf").write_bytes(b"(;SZ[5];B[cc];W[cc])")
    with pytest.raises(Exception, match=r"2\.sgf.*move 2 \(C3\) is illegal: occupied"):
        prepare(workload, f"sgf:{folder}", Data(matches=1), store, mapper=in_process)
