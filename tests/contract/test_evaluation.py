"""Metrics with intervals, comparisons, and what counts as the same answer."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pydantic import BaseModel

from penstock import registry
from penstock.data.prepare import prepare
from penstock.errors import DataError, ModelError
from penstock.evaluation import answer_rows, compare, evaluate, intervals, records_of, score, text
from penstock.evaluation.agreement import Agreement, agree, metric_faults
from penstock.evaluation.bootstrap import resamples
from penstock.evaluation.judge import verdict
from penstock.registry import Version
from penstock.store import Store
from penstock.workload import Model, Refusal, Schema
from tests.toy import Classifier, Config, Data, Evaluator, Predictor, workload

SCHEMA = Schema(("left", "right"), {"size": 8})


def records(right: Sequence[bool], units: Sequence[str] | None = None) -> pa.Table:
    """Toy records whose accuracy is the share of `right`."""
    items = [f"{i:05d}" for i in range(len(right))]
    return pa.table(
        {
            "item": items,
            "unit": list(units) if units is not None else items,
            "truth": ["left"] * len(right),
            "said": ["left" if hit else "right" for hit in right],
            "score": [0.5] * len(right),
        }
    )


EVALUATOR = Evaluator(Config(), SCHEMA)


# ---------------------------------------------------------------- intervals


def test_the_bootstrap_draws_whole_units_as_worked_out_by_hand() -> None:
    """Unit A is right twice, unit B wrong once. Two units drawn of two: AA (1/4) gives 1, AB (1/2) gives
    2/3, BB (1/4) gives 0. So 2.5 % and 97.5 % are 0 and 1, and 30 % and 70 % are both 2/3."""
    table = records([True, True, False], ["A", "A", "B"])
    wide = intervals(EVALUATOR, table)["accuracy"]
    assert wide == {"value": 2 / 3, "low": 0.0, "high": 1.0}
    narrow = intervals(EVALUATOR, table, level=0.4)["accuracy"]
    assert narrow == {"value": 2 / 3, "low": 2 / 3, "high": 2 / 3}
    drawn = [np.mean(rows < 2) for rows in resamples(table, 4000, seed=1)]  # rows 0 and 1 are right
    shares = [np.mean(np.isclose(drawn, value)) for value in (0, 2 / 3, 1)]
    assert np.allclose(shares, [0.25, 0.5, 0.25], atol=0.03)


def test_intervals_are_seeded_and_do_not_depend_on_the_order_of_rows() -> None:
    table = records([i % 3 > 0 for i in range(90)], [f"u{i // 2}" for i in range(90)])
    turned = table.take(list(range(89, -1, -1)))
    assert intervals(EVALUATOR, table, n=200) == intervals(EVALUATOR, table, n=200)
    assert intervals(EVALUATOR, table, n=200, seed=1) != intervals(EVALUATOR, table, n=200)
    assert intervals(EVALUATOR, turned, n=200) == intervals(EVALUATOR, table, n=200)


def test_a_95_percent_interval_holds_the_truth_about_95_times_in_100() -> None:
    """Items of a unit are all right or all wrong. Units drawn: about 95 %; items drawn: far fewer."""

    class Mean(Evaluator):
        def summarise(self, records: pa.Table) -> dict[str, float]:
            return {"mean": float(records["hit"].to_numpy().mean())}

    random, evaluator = np.random.default_rng(0), Mean(Config(), SCHEMA)
    covered = {"units": 0, "items": 0}
    worlds, truth = 60, 0.7
    for _ in range(worlds):
        hit = np.repeat(random.random(30) < truth, 4).astype(float)
        for kind, units in (("units", np.repeat(np.arange(30), 4)), ("items", np.arange(120))):
            table = pa.table({"unit": pa.array(units).cast(pa.string()), "hit": hit})
            found = intervals(evaluator, table, n=100)["mean"]
            low, high = found["low"], found["high"]
            assert low is not None and high is not None
            covered[kind] += low <= truth <= high
    assert 0.85 <= covered["units"] / worlds <= 1.0
    assert covered["items"] / worlds < 0.75


def test_what_is_undefined_has_no_value_and_one_unit_has_no_interval() -> None:
    alone = intervals(EVALUATOR, records([True, False], ["A", "A"]))["accuracy"]
    assert alone == {"value": 0.5, "low": None, "high": None}
    nothing = intervals(EVALUATOR, records([]))["accuracy"]
    assert nothing == {"value": None, "low": None, "high": None}
    assert text(alone) == "0.500 (no interval)" and text(nothing) == "undefined"
    assert text({"value": 0.5, "low": 0.25, "high": 0.75}) == "0.500 (0.250 to 0.750)"


def test_many_rows_take_fewer_samples() -> None:
    units = [str(i % 3) for i in range(20_001)]
    assert sum(1 for _ in resamples(records([True] * 20_001, units), 1000, 0)) == 200


# ---------------------------------------------------------------- scoring


def model(seed: int = 0, name: str = "toy", version: int = 0) -> Model[Config]:
    torch.manual_seed(seed)
    return Model(name, version, Config(), SCHEMA, Classifier(Config(), 2).state_dict())


def raw_rows(count: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    return [
        {
            "pixels": random.integers(0, 256, 64, np.uint8).tobytes(),
            "label": i % 2,
            "item": f"{i:02d}",
            "unit": "" if i % 2 else "slide",
        }
        for i in range(count)
    ]


def test_records_carry_item_and_unit_and_an_empty_unit_is_the_item() -> None:
    rows = raw_rows(3)
    answers = answer_rows(EVALUATOR, Predictor(model(), "cpu"), rows)
    table = records_of(EVALUATOR, rows, answers)
    assert table.column_names[:2] == ["item", "unit"]
    assert table["item"].to_pylist() == ["00", "01", "02"]
    assert table["unit"].to_pylist() == ["slide", "01", "slide"]


def test_scores_do_not_depend_on_how_rows_are_batched() -> None:
    rows = raw_rows(11)
    whole, cut = score(workload, model(), rows, batch=64), score(workload, model(), rows, batch=4)
    assert whole.metrics["accuracy"] == cut.metrics["accuracy"]
    assert whole.metrics["score"] == pytest.approx(cut.metrics["score"], abs=1e-6)
    assert [answer.label for answer in whole.answers] == [answer.label for answer in cut.answers]


def test_a_refused_item_is_scored_and_its_neighbours_are_not_spoilt() -> None:
    rows = raw_rows(3)
    rows[1]["pixels"] = b"short"
    scored = score(workload, model(), rows)
    assert isinstance(scored.answers[1], Refusal) and scored.records["said"][1].as_py() == ""
    assert scored.records.num_rows == 3


def test_no_rows_give_undefined_metrics() -> None:
    assert math.isnan(score(workload, model(), []).metrics["accuracy"])


# ---------------------------------------------------------------- evaluate, compare


def published(store: Store, seed: int = 0, **changed: Any) -> Version:
    """A version of untrained weights, scored on the toy's generated test split."""
    dataset = prepare(workload, "synthetic", Data(items=60), store)
    config = Config(data=Data(items=60))
    untrained = model(seed)
    weights, scored = untrained.weights, score(workload, untrained, dataset.test)
    given: dict[str, Any] = {
        "metrics": dict(intervals(EVALUATOR, scored.records, n=100)),
        "records": scored.records,
        "dataset_card": dataset.card,
    }
    return registry.publish(
        store, "toy", workload, config, SCHEMA, weights, run="toy", seed=0, **(given | changed)
    )


def test_evaluate_gives_what_was_published(store: Store) -> None:
    version = published(store)
    result = evaluate("toy", store=store)
    assert result["metrics"] == intervals(EVALUATOR, registry.records(version))
    assert result["metrics"]["accuracy"]["value"] == version.card["metrics"]["accuracy"]["value"]
    assert result["items"] == version.card["items"] > 0
    assert (result["model"], result["version"], result["data"]) == ("toy", 1, "synthetic")


def test_evaluate_on_its_own_data_keeps_to_the_test_split(store: Store) -> None:
    version = published(store)
    assert evaluate("toy@1", data="synthetic", store=store)["items"] == version.card["items"] < 60


def test_evaluate_says_when_the_data_is_gone(store: Store) -> None:
    published(store, dataset_card={**prepare(workload, "synthetic", Data(), store).card, "id": "0" * 16})
    with pytest.raises(DataError, match=r"trained on \(synthetic\) is not in this store; .*--data SOURCE"):
        evaluate("toy", store=store)


def test_compare_says_better_worse_or_cannot_tell(store: Store) -> None:
    def judged(right: Sequence[bool]) -> str:
        return published(store, records=records(right)).reference

    good, bad = judged([i % 20 > 0 for i in range(60)]), judged([i % 3 > 0 for i in range(60)])
    close = judged([i % 20 != 1 for i in range(60)])
    found = compare(good, bad, store=store)
    assert found["verdict"] == "better" and found["items"] == 60 and found["metric"] == "accuracy"
    assert found["difference"]["value"] == pytest.approx(0.95 - 40 / 60)
    assert found["difference"]["low"] > 0
    assert compare(bad, good, store=store)["verdict"] == "worse"
    assert compare(good, close, store=store)["verdict"] == "cannot tell"
    assert compare(good, good, store=store)["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_compare_is_paired_so_a_small_difference_on_the_same_items_is_seen(store: Store) -> None:
    """Apart, the intervals overlap; item by item one is never worse."""
    base = [i % 2 > 0 for i in range(60)]
    more = [hit or i % 12 == 0 for i, hit in enumerate(base)]
    one, other = published(store, records=records(more)), published(store, records=records(base))
    a, b = (intervals(EVALUATOR, registry.records(version))["accuracy"] for version in (one, other))
    assert a["low"] is not None and b["high"] is not None and a["low"] < b["high"]
    assert compare(one.reference, other.reference, store=store)["verdict"] == "better"


def test_compare_matches_items_by_name_and_needs_the_same_test_items(store: Store) -> None:
    table = records([i % 4 > 0 for i in range(40)])
    one = published(store, records=table)
    turned = published(store, records=table.take(list(range(39, -1, -1))))
    assert compare(one.reference, turned.reference, store=store)["difference"]["high"] == 0.0
    other = prepare(workload, "synthetic", Data(items=90), store)
    published(store, dataset_card=other.card)
    with pytest.raises(ModelError, match=r"tested on different items .*--data SOURCE"):
        compare("toy@1", "toy@3", store=store)
    assert compare("toy@1", "toy@3", data="synthetic", store=store)["verdict"] == "cannot tell"


def test_compare_by_another_metric_says_higher_or_lower(store: Store) -> None:
    table = records([True] * 60)
    surer = table.set_column(table.schema.get_field_index("score"), "score", pa.array([0.75] * 60))
    one, other = (published(store, records=each).reference for each in (surer, table))
    found = compare(one, other, metric="score", store=store)
    assert (found["verdict"], found["metric"], found["mode"]) == ("higher", "score", None)
    assert found["difference"]["value"] == pytest.approx(0.25)
    assert compare(other, one, metric="score", store=store)["verdict"] == "lower"
    assert compare(one, other, metric="accuracy", store=store)["mode"] == "max"
    with pytest.raises(ModelError, match=r"toy@1 has no metric 'acuracy'; did you mean accuracy\?"):
        compare(one, other, metric="acuracy", store=store)


def test_a_lower_metric_is_better_where_the_goal_says_so() -> None:
    assert verdict({"value": -1.0, "low": -2.0, "high": -0.5}, "min") == "better"
    assert verdict({"value": -1.0, "low": -2.0, "high": -0.5}, "max") == "worse"
    assert verdict({"value": -1.0, "low": -2.0, "high": 0.0}, "min") == "cannot tell"
    assert verdict({"value": 1.0, "low": None, "high": None}, "max") == "cannot tell"


# ---------------------------------------------------------------- the same answer


class Hit(BaseModel):
    label: str
    score: float


class Said(BaseModel):
    label: str = "a"
    probabilities: dict[str, float] = {"a": 0.5, "b": 0.3}
    hits: list[Hit] = []
    text: str | None = None
    large: float = 0.0


def test_numbers_agree_within_1e_5_absolute_or_relative() -> None:
    assert agree(Said(large=1e6), Said(large=1e6 + 9)).faults == []
    assert agree(Said(large=0.1), Said(large=0.1 + 9e-6)).largest == pytest.approx(9e-6)
    assert agree(Said(large=1e6), Said(large=1e6 + 11)).faults == [("/large", 1e6, 1e6 + 11)]
    assert agree(Said(large=0.1), Said(large=0.10002)).faults != []
    assert agree(Said(large=math.nan), Said(large=math.nan)).faults == []
    assert agree(Said(large=1.0), Said(large=math.inf)).faults != []


def test_another_label_is_a_fault_unless_its_offline_score_ties() -> None:
    assert agree(Said(label="a"), Said(label="b")).faults == [("/label", "a", "b")]
    tied = {"a": 0.4, "b": 0.4 + 5e-6}
    ours = Said(label="b", probabilities=tied, text="said b")
    theirs = Said(label="a", probabilities=tied, text="said a")
    found = agree(ours, theirs)
    assert found.faults == [] and found.ties == 1
    theirs = Said(label="a", probabilities={"a": 0.4, "b": 0.6})
    assert agree(ours, theirs).faults == [("/probabilities/b", 0.4 + 5e-6, 0.6)]


def test_ranks_are_identical_unless_scores_tie() -> None:
    one, two, near = Hit(label="x", score=0.9), Hit(label="y", score=0.2), Hit(label="z", score=0.2 + 3e-6)
    assert agree(Said(hits=[one, two]), Said(hits=[two, one])).faults != []
    found = agree(Said(hits=[one, near, two]), Said(hits=[one, two, near]))
    assert found.faults == [] and found.ties == 2
    assert agree(Said(hits=[one, two]), Said(hits=[one])).faults != []


def test_a_refusal_agrees_with_a_refusal_only() -> None:
    assert agree(Refusal("cut short"), Refusal("cut short here")).faults == []
    assert agree(Refusal("cut short"), Said()).faults == [("", "refused (cut short)", "an answer")]


class Drawn(BaseModel):
    images: list[bytes] = []


def test_pictures_agree_within_one_level_and_metrics_over_them_within_a_thousandth() -> None:
    def drawn(level: int) -> Drawn:
        file = io.BytesIO()
        Image.new("RGB", (4, 4), (level, 10, 10)).save(file, "PNG")
        return Drawn(images=[file.getvalue()])

    assert agree(drawn(100), drawn(100)) == Agreement()
    assert agree(drawn(100), drawn(101)) == Agreement(redrawn=1)
    assert agree(drawn(100), drawn(102)).faults != []
    evaluator, records = Evaluator(Config(), SCHEMA), pa.table({"item": ["a"], "truth": ["a"], "said": ["a"]})
    records = records.append_column("score", pa.array([1.0]))
    for served, redrawn, faults in (
        (0.9995, True, []),
        (0.9995, False, ["score"]),
        (0.9985, True, ["score"]),
    ):
        ours, theirs = {"score": 1.0}, {"score": served}
        assert metric_faults(evaluator, records, ours, theirs, redrawn) == faults


def test_a_metric_may_only_differ_where_a_tie_between_items_explains_it() -> None:
    class Rank(Evaluator):
        def summarise(self, records: pa.Table) -> dict[str, float]:
            first, second = records["score"].to_pylist()
            return {"first": float(first >= second)}

    evaluator = Rank(Config(), SCHEMA)
    tied = pa.table({"item": ["a", "b"], "score": [0.5, 0.5 - 1e-7]})
    apart = pa.table({"item": ["a", "b"], "score": [0.5, 0.4]})
    assert metric_faults(evaluator, tied, {"first": 1.0}, {"first": 0.0}) == []
    assert metric_faults(evaluator, apart, {"first": 1.0}, {"first": 0.0}) == ["first"]
    assert metric_faults(evaluator, apart, {"first": 1.0}, {"first": 1.0 - 1e-7}) == []
