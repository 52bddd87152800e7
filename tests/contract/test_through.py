"""`evaluate --through` over real HTTP: it passes where the endpoint answers as the model does offline, and
fails in one line where it does not. The endpoint is the gateway's own application under uvicorn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from penstock import registry
from penstock.data.prepare import prepare
from penstock.errors import PenstockError, RunFailed
from penstock.evaluation import evaluate, intervals, score
from penstock.registry import Version
from penstock.serving.calls import Reply
from penstock.serving.front import Front
from penstock.serving.limits import Limits
from penstock.serving.served import Served
from penstock.serving.versions.traffic import Traffic, Way
from penstock.serving.web.routes import create_app
from penstock.store import Store
from penstock.workload import Model, Refusal
from tests.endpoints import running
from tests.toy import Answer, Classifier, Config, Data, Evaluator, Predictor, Request, workload

ITEMS = Data(items=80)
Change = Callable[[Answer], Answer]


@pytest.fixture
def version(store: Store) -> Version:
    """An untrained toy, scored on its own test split."""
    torch.manual_seed(0)
    dataset = prepare(workload, "synthetic", ITEMS, store)
    config = Config(data=ITEMS)
    model = Model("toy", 0, config, dataset.schema, Classifier(config, 2).state_dict())
    scored = score(workload, model, dataset.test)
    return registry.publish(
        store,
        "toy",
        workload,
        config,
        dataset.schema,
        model.weights,
        metrics=intervals(Evaluator(config, dataset.schema), scored.records, n=50),
        records=scored.records,
        dataset_card=dataset.card,
        run="toy",
        seed=0,
    )


class InProcess:
    """The model, one request at a time, in this process; `change` makes it lie."""

    def __init__(self, store: Store, change: Change) -> None:
        self.predictor, self.change = Predictor(registry.load(store, "toy"), "cpu"), change

    async def call(self, app: str, values: Mapping[str, Any], alone: bool = False) -> Reply:
        (answer,) = self.predictor.predict([Request.model_validate(dict(values))])
        if isinstance(answer, Refusal):
            return {"refusal": [(answer.pointer, answer.detail)]}
        return {"answer": self.change(answer).model_dump_json().encode()}

    async def ready(self, app: str) -> bool:
        return True


@contextmanager
def endpoint(
    store: Store, version: Version, change: Change = lambda answer: answer, served: int | None = None
) -> Iterator[str]:
    """The URL of an endpoint that serves `version` (and says it is version `served`)."""
    named = Served("toy", served or version.version, version.aliases, version.card)
    traffic = Traffic(1, (Way("model-toy-a", named),))
    app = create_app(Front(lambda: traffic, InProcess(store, change), Limits()))
    with running(app) as url:
        yield url


def test_an_endpoint_that_answers_as_the_model_does_passes_with_every_request_counted(
    store: Store, version: Version
) -> None:
    with endpoint(store, version) as url:
        result = evaluate("toy", through=url, store=store)
    through = result["through"]
    assert through["requests"] == through["counter_rise"] == result["items"] == version.card["items"]
    assert through["largest_difference"] <= 1e-5 and through["ties"] == 0
    offline = evaluate("toy", store=store)["metrics"]
    assert result["metrics"]["accuracy"] == offline["accuracy"]
    assert result["metrics"]["score"]["value"] == pytest.approx(offline["score"]["value"], abs=1e-6)


def test_answers_come_in_order_though_requests_run_beside_each_other(store: Store, version: Version) -> None:
    """Each answer is compared with its own item's, so an exchange would be seen."""
    with endpoint(store, version) as url:
        assert evaluate("toy", data="synthetic", through=url + "/", store=store)["through"]["requests"] > 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a.model_copy(update={"score": a.score + 1e-3}),
            r"\d+ of \d+ answers .*first: item .*/score: 0",
        ),
        (lambda a: a.model_copy(update={"label": "left"}), "/label: 'right' offline, 'left' served"),
    ],
)
def test_an_endpoint_that_answers_otherwise_fails_naming_item_and_field(
    store: Store, version: Version, change: Change, message: str
) -> None:
    with endpoint(store, version, change) as url:
        with pytest.raises(RunFailed, match=message) as error:
            evaluate("toy", through=url, store=store)
    assert "\n" not in str(error.value)


def test_noise_below_the_tolerance_is_the_same_answer_but_must_not_move_a_metric(
    store: Store, version: Version
) -> None:
    with endpoint(store, version, lambda a: a.model_copy(update={"score": a.score + 5e-7})) as url:
        assert 4e-7 < evaluate("toy", through=url, store=store)["through"]["largest_difference"] < 6e-7
    with endpoint(store, version, lambda a: a.model_copy(update={"score": a.score + 8e-6})) as url:
        with pytest.raises(RunFailed, match=r"score is .* offline and .* through"):
            evaluate("toy", through=url, store=store)


def test_an_endpoint_that_serves_another_version_or_model_is_named(store: Store, version: Version) -> None:
    with endpoint(store, version, served=7) as url:
        with pytest.raises(PenstockError, match=r"does not serve toy@1: .*toy"):
            evaluate("toy", through=url, store=store)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:9", r"no endpoint answers at http://127.0.0.1:9 \(.*refused.*penstock serve toy"),
        ("127.0.0.1:8000", "is not the URL of an endpoint; write http://127.0.0.1:8000"),
        ("ftp://127.0.0.1", "is not the URL of an endpoint"),
    ],
)
def test_a_dead_url_is_one_line(store: Store, version: Version, url: str, message: str) -> None:
    with pytest.raises(PenstockError, match=message) as error:
        evaluate("toy", through=url, store=store)
    assert "\n" not in str(error.value)


def test_an_endpoint_that_counts_too_little_did_not_answer_itself(
    store: Store, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers from a cache in between look right; only the endpoint's own counter tells."""
    from penstock.evaluation import through
    from penstock.serving.metrics import Metrics

    count, seen = Metrics.count, [0]

    def forgetful(self: Metrics, title: str | None, status: int, seconds: float) -> None:
        seen[0] += title == "toy@1"
        if seen[0] != 3:
            count(self, title, status, seconds)

    monkeypatch.setattr(Metrics, "count", forgetful)
    monkeypatch.setattr(through, "COUNTED_S", 0.3)
    with endpoint(store, version) as url:
        with pytest.raises(RunFailed, match=r"counted \d+ requests, not the \d+ it was sent"):
            evaluate("toy", through=url, store=store)
