"""Checks of what learns and what answers: objectives, steps, predictions, metrics."""

from __future__ import annotations

import json
import math
from typing import Any

from penstock.errors import PenstockError
from penstock.media import media_fields
from penstock.testing.compare import close, example_of, said
from penstock.testing.subject import ROWS, Subject
from penstock.workload import Refusal, resolve

# ---------------------------------------------------------------- batches -> weights


def covers(subject: Subject) -> None:
    from penstock.training.gradients import Root
    from penstock.training.step import moved_names

    task = subject.task()
    objectives = list(task.objectives())
    assert objectives, "there is no objective"
    assert len({each.name for each in objectives}) == len(objectives), "two objectives have the same name"
    moved_names(Root(task, objectives), objectives)


def repeats(subject: Subject) -> None:
    from penstock.training.step import reseed

    task = subject.task()
    batch = task.collate(subject.items(0, ROWS))
    for objective in task.objectives():
        seen = []
        for _ in range(2):
            reseed(0, 0, 0)
            total, weight = objective.loss(batch)
            seen.append((float(total.detach()), float(weight)))
        assert seen[0] == seen[1], f"loss {objective.name!r} of one batch is {seen[0]}, then {seen[1]}"
        assert math.isfinite(seen[0][0]) and seen[0][1] > 0, (
            f"loss {objective.name!r} is {seen[0][0]}, weight {seen[0][1]}"
        )


def moves(subject: Subject) -> None:
    import torch

    before, after = dict(subject.task().module.state_dict()), subject.step()
    assert any(not torch.equal(before[name], after[name]) for name in after), "a step moves no weight"
    for name, tensor in after.items():
        assert not tensor.is_floating_point() or torch.isfinite(tensor).all(), (
            f"{name} is not finite after a step"
        )


def cuts(subject: Subject) -> None:
    whole, before = subject.step(), dict(subject.task().module.state_dict())
    for places in ((4,), (1, 1, 5)):  # uneven, and with nothing between two cuts
        parts = subject.step(*places)
        for name, tensor in whole.items():
            if tensor.is_floating_point() and tensor.numel():
                far = float((tensor - before[name]).abs().max())
                apart = float((tensor - parts[name]).abs().max())
                assert apart <= 1e-3 * far + 1e-6, (
                    f"cut into micro-batches, {name} ends {apart:.1e} elsewhere after a move of {far:.1e}: a "
                    "loss that is no sum, BatchNorm, or torch's dropout (penstock.nn.Dropout does not mind)"
                )


# ---------------------------------------------------------------- weights -> answers -> metrics


def travels(subject: Subject) -> None:
    from safetensors.torch import load, save

    weights = {name: tensor.contiguous() for name, tensor in subject.step().items()}
    requests = subject.evaluator.requests(subject.rows)
    here = subject.predictor(weights).predict(requests)
    there = subject.predictor(load(save(weights))).predict(requests)
    assert close(said(here), said(there)), "answers differ after the weights went through safetensors"


def answers_examples(subject: Subject) -> None:
    request = subject.workload.request.model_validate(example_of(subject.workload.request))
    (answer,) = subject.predictor().predict([request])
    assert not isinstance(answer, Refusal), f"the example request is refused: {answer.detail}"
    assert isinstance(answer, subject.workload.answer), f"the answer is a {type(answer).__name__}"
    json.loads(answer.model_dump_json())


def independent(subject: Subject) -> None:
    predictor = subject.predictor()
    requests = subject.evaluator.requests(subject.rows)
    together = said(predictor.predict(requests))
    alone = [said(predictor.predict([request]))[0] for request in requests]
    assert close(together, alone), "an answer depends on what else is in the batch"
    assert predictor.predict([]) == [] or not list(predictor.predict([])), "no requests give answers"


def refuses(subject: Subject) -> None:
    media = media_fields(subject.workload.request)
    requests = list(subject.evaluator.requests(subject.rows))
    if not media:
        return  # whatever else is wrong with a request, pydantic finds
    predictor = subject.predictor()
    good = said(predictor.predict(requests))
    bad = requests[0].model_copy(update={next(iter(media)): b"not what it should be"})
    mixed = list(predictor.predict([requests[0], bad, *requests[1:]]))
    assert isinstance(mixed[1], Refusal), f"a damaged {next(iter(media))} is not refused"
    assert close(said([mixed[0], *mixed[2:]]), good), "a bad request spoils its neighbours"


def scores(subject: Subject) -> None:
    rows = subject.rows
    answers = list(subject.predictor().predict(subject.evaluator.requests(rows)))
    records = subject.evaluator.records(rows, [*answers[:-1], Refusal("damaged")])
    assert records.num_rows == len(rows), (
        f"{records.num_rows} records of {len(rows)} rows, one of them refused"
    )
    summary = subject.evaluator.summarise(records)
    goal = subject.workload.goal.metric
    assert goal in summary, f"the goal metric {goal!r} is not among {', '.join(sorted(summary))}"
    for name, value in subject.evaluator.summarise(records.take([0] * len(rows))).items():
        float(value)  # a bootstrap sample may hold one item many times: NaN is a figure, an exception is not
        assert name in summary, f"metric {name!r} appears only in some samples"


def exports(subject: Subject) -> None:
    """Only what needs no ONNX: whether an answer comes through the graphs, and is the same."""
    from penstock.exporting.parity import answered, calls_of

    if subject.workload.exporter is None:
        return
    there = subject.predictor()
    try:
        plan = resolve(subject.workload.exporter)(there)
    except PenstockError:
        return  # it says why not
    requests = [plan.ask(request) for request in subject.evaluator.requests(subject.rows)]
    here = said(answered(subject.predictor(), requests))
    through: list[Any] = []
    for name, calls in calls_of(plan.graphs, lambda: through.extend(answered(there, requests))).items():
        named, shapes = list(plan.graphs[name].inputs.items()), [array.shape for array in calls[0]]
        fits = len(named) == len(shapes) and all(
            len(shape) == len(found)
            and all(isinstance(a, str) or a == b for a, b in zip(shape, found, strict=True))
            for (_, shape), found in zip(named, shapes, strict=True)
        )
        assert fits, f"graph {name!r} is called with shapes {shapes}, not those of {dict(named)}"
    assert close(here, said(through)), "once it is exported a predictor answers differently"
    json.dumps([plan.preprocessing, plan.postprocessing])
    absent = set(plan.assets) - set(subject.dataset.schema.assets)
    assert not absent, f"the schema has no asset {', '.join(sorted(absent))}"
