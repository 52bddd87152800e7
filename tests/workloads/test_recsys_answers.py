"""Recsys: what it answers to whom, and how answers are scored."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.evaluation.bootstrap import intervals
from penstock.evaluation.scoring import score
from penstock.store import Store
from penstock.workload import Model, Refusal
from tests.ratings import ratings, read, write
from workloads.recsys import workload
from workloads.recsys.catalogue import Catalogue, Histories
from workloads.recsys.config import Config, Data, Net
from workloads.recsys.evaluate import MOST_ASKED, SAMPLED, RecsysEvaluator
from workloads.recsys.messages import Rated, Recommended, RecsysAnswer, RecsysRequest, Wanted
from workloads.recsys.model import build
from workloads.recsys.predict import RecsysPredictor
from workloads.recsys.ranking import coverage, measures, novelty

KINDS = ("neighbours", "dense", "factors", "sasrec", "itemknn", "bias", "popularity")
USER = "00000003"


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    data = Data(users=60, items=80, ratings=900)
    store = Store.open(tmp_path_factory.mktemp("recsys"))
    return prepare(workload, "synthetic", data, store, mapper=in_process)


def model_of(dataset: Dataset, kind: str = "neighbours", **net: Any) -> Model[Config]:
    """An untrained one; its numbers are stirred, so that nothing in it stands for nothing."""
    config = Config(model=Net(kind=kind, width=16, heads=2, layers=1, **net))  # type: ignore[arg-type]
    torch.manual_seed(0)
    weights = build(config, dataset.schema).state_dict()
    stirred = {name: value + 0.1 * torch.randn_like(value) for name, value in weights.items()}
    return Model("recsys", 0, config, dataset.schema, stirred)


@pytest.fixture(scope="module")
def predictor(synthetic: Dataset) -> RecsysPredictor:
    return RecsysPredictor(model_of(synthetic), "cpu")


def ask(predictor: RecsysPredictor, **asked: Any) -> RecsysAnswer:
    (answer,) = predictor.predict([RecsysRequest.model_validate(asked)])
    assert isinstance(answer, RecsysAnswer), answer
    return answer


def refused(predictor: RecsysPredictor, **asked: Any) -> Refusal:
    (answer,) = predictor.predict([RecsysRequest.model_validate(asked)])
    assert isinstance(answer, Refusal)
    return answer


def names(items: Sequence[Recommended]) -> list[str]:
    return [item.item for item in items]


# ---------------------------------------------------------------- who asks


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_any_catalogue_answers_the_examples_it_is_started_with(kind: str, tmp_path: Path) -> None:
    dataset = read(f"csv:{write(tmp_path / 'ratings.csv', ratings())}", Store.open(tmp_path / "store"))
    examples: Any = RecsysRequest.model_config["json_schema_extra"]
    assert "v1" not in Catalogue(dataset.schema).ids
    predictor = RecsysPredictor(model_of(dataset, kind), "cpu")
    for example in examples["examples"]:
        assert ask(predictor, **example).items


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_answers_known_and_new_users_and_nobody(kind: str, synthetic: Dataset) -> None:
    predictor = RecsysPredictor(model_of(synthetic, kind), "cpu")
    rated = [{"item": "v1", "rating": 9, "time": 1.71e9}, {"item": "v2", "rating": 2}, {"item": "v9"}]
    score = [{"item": "v7"}, {"item": "v1", "time": 1.7e9}]
    for who, basis in (
        ({"user": USER}, "history"),
        ({"rated": rated}, "history"),
        ({"user": USER, "rated": rated}, "history"),
        ({"user": "nobody", "rated": rated[:1]}, "history"),
        ({"user": "nobody"}, "popularity"),
        ({}, "popularity"),
    ):
        answer = ask(predictor, **who, score=score, n=6, similar_to="v3")
        assert answer.basis == basis and len(answer.items) == 6 and names(answer.scores) == ["v7", "v1"]
        ranks = [item.score for item in answer.items]
        assert ranks == sorted(ranks, reverse=True) and all(map(math.isfinite, ranks))
        for item in [*answer.items, *answer.scores]:
            assert item.rating is not None and 0 <= item.rating <= 12 and item.title.startswith("Film ")


def test_a_user_is_known_by_the_training_history(synthetic: Dataset, predictor: RecsysPredictor) -> None:
    _, known = Histories(synthetic.schema).of(USER)
    ids = Catalogue(synthetic.schema).ids
    told = [
        {"item": ids[i], "rating": float(r), "time": float(t)}
        for i, r, t in zip(known["items"], known["ratings"], known["times"], strict=True)
    ]
    assert ask(predictor, user=USER, n=20) == ask(predictor, rated=told, n=20)
    assert ask(predictor, user=USER, n=20) == ask(predictor, user=USER, rated=told[:3], n=20)


def test_what_is_told_extends_the_history_and_of_an_item_rated_twice_the_last_counts(
    synthetic: Dataset, predictor: RecsysPredictor
) -> None:
    likes, dislikes = ({"item": "v1", "rating": rating, "time": 1.71e9} for rating in (12.0, 0.0))
    plain, liked, disliked = (
        ask(predictor, rated=[{"item": "v5", "rating": 6, "time": 1.7e9}, *rated], score=[{"item": "v7"}])
        for rated in ([], [likes], [dislikes])
    )
    assert len({answer.scores[0].rating for answer in (plain, liked, disliked)}) == 3
    again = ask(
        predictor,
        rated=[likes, {"item": "v5", "rating": 6, "time": 1.7e9}, dislikes],
        score=[{"item": "v7"}],
    )
    assert again == disliked
    _, known = Histories(synthetic.schema).of(USER)
    first = Catalogue(synthetic.schema).ids[known["items"][0]]
    changed = ask(predictor, user=USER, rated=[{"item": first, "rating": 0.0}], score=[{"item": "v7"}])
    assert changed.scores != ask(predictor, user=USER, score=[{"item": "v7"}]).scores


def test_only_the_newest_ratings_are_looked_at(synthetic: Dataset) -> None:
    short = RecsysPredictor(model_of(synthetic, history=3), "cpu")
    rated = [{"item": f"v{n}", "rating": n % 12, "time": 1.7e9 + n} for n in range(10)]
    newest = ask(short, rated=rated[-3:], score=[{"item": "v40"}]).scores
    assert ask(short, rated=rated, score=[{"item": "v40"}]).scores == newest
    assert ask(short, rated=rated[::-1], score=[{"item": "v40"}]).scores == newest, "by time"
    assert not set(names(ask(short, rated=rated, n=80).items)) & {f"v{n}" for n in range(10)}, "all are seen"


def test_nobody_gets_the_most_watched_items(synthetic: Dataset, predictor: RecsysPredictor) -> None:
    known = Catalogue(synthetic.schema)
    wanted = sorted(range(len(known)), key=lambda item: (-known.count[item], item))[:10]
    assert names(ask(predictor).items) == [known.ids[item] for item in wanted]


# ---------------------------------------------------------------- what is asked


def test_seen_items_are_left_out_unless_asked_for(synthetic: Dataset, predictor: RecsysPredictor) -> None:
    _, known = Histories(synthetic.schema).of(USER)
    seen = {Catalogue(synthetic.schema).ids[item] for item in known["items"]} | {"v1"}
    told = {"user": USER, "rated": [{"item": "v1"}], "n": 80}
    assert set(names(ask(predictor, **told).items)) == {f"v{n}" for n in range(80)} - seen
    every = ask(predictor, **told, exclude_seen=False).items
    assert set(names(every)) == {f"v{n}" for n in range(80)}
    assert [item for item in names(every) if item not in seen] == names(ask(predictor, **told).items)


def test_genres_choose_among_items(synthetic: Dataset, predictor: RecsysPredictor) -> None:
    known = Catalogue(synthetic.schema)
    some = [
        item for item, kinds in zip(known.ids, known.genres, strict=True) if set(kinds) & {"bold", "calm"}
    ]
    found = ask(predictor, genres=["bold", "calm"], n=80).items
    assert sorted(names(found)) == sorted(some) and 0 < len(some) < 60
    assert refused(predictor, genres=["bold", "blod"]) == Refusal(
        "no item is of genre 'blod'; did you mean bold?", "/genres"
    )
    rated = [{"item": item} for item in some]
    left = refused(predictor, genres=["bold"], rated=rated)
    assert (
        left.pointer == "/exclude_seen" and "no item is left: all of these genres are watched" in left.detail
    )
    assert ask(predictor, genres=["bold"], rated=rated, exclude_seen=False).items
    whole = [{"item": item} for item in known.ids]
    assert refused(predictor, rated=whole).detail.startswith(
        "no item is left: all are watched; set exclude_seen"
    )


def test_similar_items_are_those_that_the_same_users_watched(
    synthetic: Dataset, predictor: RecsysPredictor
) -> None:
    known = Catalogue(synthetic.schema)
    cosine = {
        name: float(known.vectors[known.number["v3"]] @ known.vectors[n]) for n, name in enumerate(known.ids)
    }
    found = ask(predictor, similar_to="v3", n=5).similar
    assert names(found) == sorted(cosine.keys() - {"v3"}, key=lambda name: -cosine[name])[:5]
    assert [item.score for item in found] == pytest.approx([cosine[item.item] for item in found], abs=1e-6)
    assert ask(predictor, n=5).similar == []


def test_no_items_can_be_asked_for(predictor: RecsysPredictor) -> None:
    answer = ask(predictor, user=USER, n=0, score=[{"item": "v1"}])
    assert answer.items == [] and len(answer.scores) == 1
    known = [{"item": f"v{n}"} for n in range(80)]
    assert ask(predictor, rated=known, n=0, score=[{"item": "v1"}]).scores, "nothing has to be left"


def test_scores_come_in_the_asked_order_and_are_those_of_the_list(predictor: RecsysPredictor) -> None:
    items = ask(predictor, user=USER, n=20).items
    asked = [{"item": item.item} for item in reversed(items)]
    assert ask(predictor, user=USER, n=0, score=asked).scores == list(reversed(items))
    early, late = ask(
        predictor, user=USER, score=[{"item": "v1", "time": 1.70e9}, {"item": "v1", "time": 1.73e9}]
    ).scores
    assert early.rating != late.rating and early.score == late.score, "a rating hangs on its time"


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"rated": [{"item": "v1"}, {"item": "x"}]}, "/rated/1/item"),
        ({"score": [{"item": "x"}]}, "/score/0/item"),
        ({"similar_to": "x"}, "/similar_to"),
    ],
)
def test_an_unknown_item_is_refused_where_it_stands(
    asked: Any, pointer: str, predictor: RecsysPredictor
) -> None:
    assert refused(predictor, **asked) == Refusal("item 'x' is not in the catalogue of 80 items", pointer)


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"user": ""}, "user"),
        ({"user": "u" * 129}, "user"),
        ({"n": -1}, "n"),
        ({"n": 101}, "n"),
        ({"rated": [{"item": "v1"}] * 2_001}, "rated"),
        ({"score": [{"item": "v1"}] * 1_001}, "score"),
        ({"genres": ["calm"] * 33}, "genres"),
        ({"rated": [{"item": "v1", "rating": float("nan")}]}, "rating"),
        ({"rated": [{"item": "v1", "rating": 1e30}]}, "rating"),
        ({"rated": [{"item": "v1", "time": -1}]}, "time"),
        ({"score": [{"item": "v1", "time": 1.4e12}]}, "time"),
        ({"rated": [{"item": "v1", "stars": 3}]}, "stars"),
        ({"users": "u"}, "users"),
    ],
)
def test_a_request_that_cannot_be_says_where(asked: Any, where: str) -> None:
    with pytest.raises(ValidationError, match=where):
        RecsysRequest.model_validate(asked)


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_ratings_give_finite_answers(kind: str, synthetic: Dataset) -> None:
    predictor = RecsysPredictor(model_of(synthetic, kind), "cpu")
    rated = [
        {"item": "v1", "rating": 1e6},
        {"item": "v2", "rating": -1e6, "time": 0},
        {"item": "v3", "time": 1e11},
    ]
    answer = ask(predictor, user=USER, rated=rated, score=[{"item": "v4"}])
    for item in [*answer.items, *answer.scores]:
        assert item.rating is not None and math.isfinite(item.score) and 0 <= item.rating <= 12


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_the_same_in_any_company_bit_for_bit(kind: str, synthetic: Dataset) -> None:
    predictor = RecsysPredictor(model_of(synthetic, kind), "cpu")
    requests = RecsysEvaluator(model_of(synthetic).config, synthetic.schema).requests(
        synthetic.test.rows(range(9))
    )
    requests.insert(4, RecsysRequest(similar_to="unknown"))
    together = predictor.predict(requests)
    assert together == [predictor.predict([request])[0] for request in requests]
    assert predictor.predict(requests[::-1]) == together[::-1] and isinstance(together[4], Refusal)


def test_data_without_ratings_have_answers_without_ratings(synthetic: Dataset) -> None:
    fields = {**synthetic.schema.fields, "rated": False}
    model = replace(model_of(synthetic, "sasrec"), schema=replace(synthetic.schema, fields=fields))
    answer = ask(RecsysPredictor(model, "cpu"), rated=[{"item": "v1"}], score=[{"item": "v2"}])
    assert answer.items and {item.rating for item in [*answer.items, *answer.scores]} == {None}
    scored = score(workload, model, synthetic.test)
    assert math.isnan(scored.metrics["rmse"]) and scored.metrics["ndcg_at_10"] > 0


# ---------------------------------------------------------------- measures


def slowly(top: Sequence[int], wanted: set[int]) -> dict[str, float]:
    """The measures of one list of ten, by their definitions."""
    hits = [place for place, item in enumerate(top[:10], start=1) if item in wanted]
    precision, recall = len(hits) / 10, len(hits) / len(wanted)
    gain = sum(1 / math.log2(place + 1) for place in hits)
    return {
        "precision_at_10": precision,
        "recall_at_10": recall,
        "f1_at_10": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "hr_at_10": float(bool(hits)),
        "ndcg_at_10": gain / sum(1 / math.log2(place + 1) for place in range(1, min(len(wanted), 10) + 1)),
        "mrr_at_10": 1 / hits[0] if hits else 0.0,
    }


def test_measures_of_lists_by_hand() -> None:
    hits = np.zeros((4, 10), bool)
    hits[0, [0, 2]], hits[1, 9], hits[2, :] = True, True, True
    found = measures(hits, np.array([4, 1, 30, 3]))
    assert found["precision_at_10"] == pytest.approx([0.2, 0.1, 1, 0])
    assert found["recall_at_10"] == pytest.approx([0.5, 1, 1 / 3, 0])
    assert found["f1_at_10"] == pytest.approx([2 / 7, 2 / 11, 0.5, 0])
    assert found["hr_at_10"] == pytest.approx([1, 1, 1, 0])
    best = 1 + 1 / math.log2(3) + 0.5 + 1 / math.log2(5)
    assert found["ndcg_at_10"] == pytest.approx([1.5 / best, 1 / math.log2(11), 1, 0])
    assert found["mrr_at_10"] == pytest.approx([1, 0.1, 1, 0])
    assert novelty(np.array([50, 25, 100, 0], np.float32), 100) == pytest.approx([1, 2, 0, math.log2(200)])


def test_coverage_is_the_mean_over_all_crowds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.recsys.ranking.CROWD", 3)
    lists = [{0, 1}, {0, 2}, {0, 1}, {0, 3}, {0, 1}]
    shown = np.array([sum(item in one for one in lists) for item in range(6)])
    every = [len(set.union(*crowd)) / 6 for crowd in itertools.combinations(lists, 3)]
    assert coverage(shown, 5) == pytest.approx(np.mean(every))
    assert coverage(np.array([2, 1, 0]), 2) == pytest.approx(2 / 3), "fewer users than a crowd"
    assert coverage(np.zeros(4, np.int64), 50) == 0


def test_coverage_lies_inside_its_interval(synthetic: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bootstrap sample holds fewer different users, which must not count as fewer items."""
    monkeypatch.setattr("workloads.recsys.ranking.CROWD", 20)
    model = model_of(synthetic)
    scored = score(workload, model, synthetic.test)
    found = intervals(RecsysEvaluator(model.config, synthetic.schema), scored.records)["coverage"]
    assert found["low"] is not None and found["high"] is not None
    assert found["low"] < found["value"] < found["high"]


def test_metrics_are_those_of_a_plain_computation(synthetic: Dataset) -> None:
    model = model_of(synthetic)
    scored = score(workload, model, synthetic.test)
    evaluator, known = RecsysEvaluator(model.config, synthetic.schema), Catalogue(synthetic.schema)
    lists, squared, places, shown = [], [], [], []
    for row, answer in zip(synthetic.test.rows(range(len(synthetic.test))), scored.answers, strict=True):
        top = [known.number[item.item] for item in answer.items]
        truth = row["items"].tolist()
        lists.append(slowly(top, set(truth)))
        shown += top
        squared += [(said.rating - r) ** 2 for said, r in zip(answer.scores, row["ratings"], strict=False)]
        others = [item.score for item in answer.scores[len(truth) :]]
        seen = {
            *truth,
            *row["past_items"].tolist(),
            *Histories(model.schema).of(row["who"])[1]["items"].tolist(),
        }
        assert not seen & {known.number[item.item] for item in answer.scores[len(truth) :]}
        assert len(others) == min(SAMPLED, len(known) - len(seen))
        places += [sum(other >= item.score for other in others) for item in answer.scores[: len(truth)]]
    wanted: dict[str, Any] = {name: np.mean([one[name] for one in lists]) for name in lists[0]}
    wanted |= {
        "rmse": math.sqrt(np.mean(squared)),
        "coverage": len(set(shown)) / len(known),  # there are fewer than a hundred users
        "novelty": np.mean([-math.log2(max(known.count[item], 0.5) / 60) for item in shown]),
        "sampled100_hr_at_10": np.mean([place < 10 for place in places]),
        "sampled100_ndcg_at_10": np.mean([1 / math.log2(place + 2) if place < 10 else 0 for place in places]),
    }
    assert scored.metrics == pytest.approx(wanted, rel=1e-6)
    assert 0 < scored.metrics["ndcg_at_10"] < 1 and 0 < scored.metrics["sampled100_hr_at_10"] < 1
    # a bootstrap sample is scored as if its users were all there are
    drawn = np.random.default_rng(0).integers(0, 60, 40)
    again = evaluator.summarise(scored.records.take(drawn))
    assert again["rmse"] == pytest.approx(
        math.sqrt(
            sum(scored.records["squared"].to_numpy()[drawn]) / sum(scored.records["rated"].to_numpy()[drawn])
        )
    )
    assert again["ndcg_at_10"] == pytest.approx(np.mean([lists[n]["ndcg_at_10"] for n in drawn]))


def row(items: Sequence[int], ratings: Sequence[float], strange: int = 0) -> dict[str, Any]:
    none = {"past_items": np.empty(0, np.int32), "past_ratings": np.empty(0, np.float32)}
    times = np.full(len(items), 1_710_000_000)
    return {"who": "new", "items": np.array(items, np.int32), "ratings": np.array(ratings, np.float32),
            "times": times, **none, "past_times": times[:0], "strange": strange}  # fmt: skip


def test_a_refusal_is_as_wrong_as_can_be(synthetic: Dataset) -> None:
    evaluator = RecsysEvaluator(model_of(synthetic).config, synthetic.schema)
    records = evaluator.records([row([3, 4], [2.0, 11.0])], [Refusal("no", "/user")])
    found = evaluator.summarise(records)
    assert found["rmse"] == pytest.approx(math.sqrt((10**2 + 11**2) / 2)), "of 0 to 12"
    assert math.isnan(found.pop("novelty")) and records["basis"].to_pylist() == ["refusal"]
    del found["rmse"]
    assert set(found.values()) == {0.0}


def test_items_that_the_model_does_not_know_are_missed(synthetic: Dataset) -> None:
    evaluator = RecsysEvaluator(model_of(synthetic).config, synthetic.schema)
    known = Catalogue(synthetic.schema)
    rows = [row([3], [7.0]), row([3], [7.0], strange=3), row([], [], strange=2)]
    requests = evaluator.requests(rows)
    assert [len(request.score) for request in requests] == [80, 80, 80]
    items = [Recommended(item=known.ids[3], score=1.0, rating=7.0)]
    answers = [
        RecsysAnswer(
            basis="history",
            items=items,
            scores=[Recommended(item=one.item, score=-n, rating=6.0) for n, one in enumerate(request.score)],
            similar=[],
        )
        for request in requests
    ]
    found = evaluator.summarise(evaluator.records(rows, answers))
    assert found["recall_at_10"] == pytest.approx((1 + 1 / 4 + 0) / 3) and found["rmse"] == 1
    assert found["sampled100_hr_at_10"] == 1


def test_long_rows_are_asked_within_the_limits_of_a_request(synthetic: Dataset) -> None:
    evaluator = RecsysEvaluator(model_of(synthetic).config, synthetic.schema)
    many = row([n % 80 for n in range(700)], [5.0] * 700)
    many |= {
        "past_items": np.arange(2_500) % 80,
        "past_ratings": np.arange(2_500.0),
        "past_times": np.arange(2_500),
    }
    (request,) = evaluator.requests([many])
    assert len(request.score) == MOST_ASKED and len(request.rated) == 2_000
    assert request.rated[-1] == Rated(
        item=Catalogue(synthetic.schema).ids[2_499 % 80], rating=2_499, time=2_499
    )
    assert request.score[0] == Wanted(item="v0", time=1_710_000_000)


def test_metrics_of_nothing_are_undefined(synthetic: Dataset) -> None:
    evaluator = RecsysEvaluator(model_of(synthetic).config, synthetic.schema)
    none = evaluator.summarise(evaluator.records([], []))
    some = evaluator.summarise(evaluator.records([row([3], [7.0])], [Refusal("no")]))
    assert none.keys() == some.keys() and all(map(math.isnan, none.values()))


def test_the_report_shows_places_and_popularity(synthetic: Dataset) -> None:
    model = model_of(synthetic)
    evaluator = RecsysEvaluator(model.config, synthetic.schema)
    records = score(workload, model, synthetic.test).records
    for figure in evaluator.figures(records, [], []):
        assert "<svg" in figure.svg


def test_other_items_to_rank_among_hang_on_the_user_alone(synthetic: Dataset) -> None:
    evaluator = RecsysEvaluator(model_of(synthetic).config, synthetic.schema)
    rows = synthetic.test.rows(range(4))
    one, other = (evaluator.others(row) for row in rows[:2])
    assert one != other and one == evaluator.others(rows[0])
