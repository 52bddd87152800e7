"""One published model under Ray Serve: answers in batches, one bad request never spoils another."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

import ray
import torch
from pydantic import BaseModel, ValidationError
from ray import serve

from penstock import registry
from penstock.capabilities import NAMES
from penstock.evaluation import records_of
from penstock.serving.calls import Piece, Reply
from penstock.serving.example import answer_example, example
from penstock.serving.faster import speed_up
from penstock.serving.limits import Limits
from penstock.serving.on_ray.batching import Batcher, reply_of
from penstock.serving.problems import pointer
from penstock.serving.served import Served
from penstock.store import Store
from penstock.workload import Refusal, resolve

OPTIONS: dict[str, Any] = {
    "health_check_period_s": 1,
    "health_check_timeout_s": 30,
    "graceful_shutdown_wait_loop_s": 0.1,
    "graceful_shutdown_timeout_s": 10,
    "max_constructor_retry_count": 2,
    "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
}
"""Of models and gateways: a death is noticed within a second, and who goes ends what it has."""
SWITCH_S = 0.0003
"""After which a thread of a serving process hands on to one that waits; Python's own is 5 ms, as long as a
request takes."""


@dataclass(frozen=True)
class Size:
    """How much of a cluster a version takes: replicas, and logical CPUs and GPUs (fractions too) of each."""

    replicas: int = 1
    cpus: float = 0.1
    gpus: float = 0.0


@serve.deployment
class ModelReplica:
    """A replica of one model. It has answered its workload's own example before it takes requests."""

    def __init__(self, store: str, reference: str, limits: dict[str, Any], serving: registry.Serving) -> None:
        torch.set_num_threads(serving.threads)
        sys.setswitchinterval(SWITCH_S)
        opened = Store.open(store)
        version = registry.find(opened, reference)
        workload = registry.workload_of(version)
        device = "cuda" if ray.get_gpu_ids() else "cpu"
        self.predictor = resolve(workload.predictor)(registry.load(opened, version), device)
        speed_up(self.predictor, serving.faster, device)
        self.evaluator = registry.evaluator_of(version)
        self.labels = list(version.card["schema"]["labels"])
        self.title, self.answer = version.reference, workload.answer
        self.request = workload.request
        for size in sorted({1, 2, limits["batch"]} if serving.faster else {1}):
            answer_example(self.predictor, self.request, reference, size)  # also compiles, where it is to
        self.batcher = Batcher(self.predictor, Limits(**limits))

    async def predict(self, values: Mapping[str, Any]) -> Reply:
        """The reply to a request's values (JSON values, bytes where a field holds media)."""
        request = self._valid(values)
        if not isinstance(request, BaseModel):
            return request
        return {**await self.batcher.ask(request), "model": self.title}

    async def predict_many(self, many: Sequence[Mapping[str, Any]]) -> list[Reply]:
        """The replies to several requests that came in one call, once the last is there."""
        return await asyncio.gather(*(self.predict(values) for values in many))

    async def ready(self) -> bool:
        """True: a replica that can be asked has answered its example."""
        return True

    async def examine(self, times: int) -> tuple[list[float], list[str]]:
        """Seconds that the model computes for its own example, one after the other; what it can do beside
        answering (penstock.capabilities.NAMES)."""
        request = self.request.model_validate(example(self.request))
        seconds = [(await self.batcher.ask(request))["seconds"] for _ in range(times)]
        return seconds, [name for name, kind in NAMES.items() if isinstance(self.predictor, kind)]

    async def stream(self, values: Mapping[str, Any]) -> AsyncIterator[Piece]:
        """The reply in pieces; batches of others are computed between them."""
        request = self._valid(values)
        if not isinstance(request, BaseModel):
            yield cast(Piece, request)
            return
        pieces = self.predictor.stream(request)
        try:
            while isinstance(piece := await self.batcher.run(partial(next, pieces, None)), str):
                yield Piece(text=piece, model=self.title)
            if piece is None:
                raise ValueError("the stream ended without an answer")
            yield cast(Piece, {**reply_of(piece), "model": self.title})
        except Exception as error:
            yield Piece(fault=f"{type(error).__name__}: {error}"[:1000])

    async def position(self, values: Mapping[str, Any]) -> Reply:
        """How a board game stands after a request's moves."""
        request = self._valid(values)
        if not isinstance(request, BaseModel):
            return request
        found = await self.batcher.run(partial(self.predictor.position, request))
        if isinstance(found, Refusal):
            return Reply(refusal=[(found.pointer, found.detail)])
        return Reply(answer=json.dumps(asdict(found)).encode(), model=self.title)

    async def judge(self, answer: bytes, truth: Mapping[str, Any]) -> Reply:
        """The record of an answer that was given, as the workload's evaluator makes it of `truth`."""
        try:
            record = await self.batcher.run(partial(self._record, answer, truth))
        except Exception as error:  # whatever an evaluator makes of a stranger's truth
            return Reply(refusal=[("/truth", f"it cannot be scored: {error}"[:200])])
        return Reply(answer=record)

    def _record(self, answer: bytes, truth: Mapping[str, Any]) -> bytes:
        import pyarrow as pa

        row = {**truth, "item": "", "unit": ""}
        if row.get("label") in self.labels:
            row["label"] = self.labels.index(row["label"])  # a client knows the words, not their numbers
        table = records_of(self.evaluator, [row], [self.answer.model_validate_json(answer)])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as out:
            out.write_table(table)
        return bytes(sink.getvalue())

    def _valid(self, values: Mapping[str, Any]) -> BaseModel | Reply:
        try:
            return self.request.model_validate(values)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            return Reply(refusal=[(pointer(one["loc"]), one["msg"]) for one in found])

    def check_health(self) -> None:
        self.batcher.check()


def model_app(store: str, model: Served, limits: Limits, size: Size) -> serve.Application:
    """One version as a Serve application, served as its card says. `size`: what it may take."""
    card = registry.Serving.of(model.card).within(limits.batch, size.replicas)
    limits = replace(limits, batch=card.batch, batch_wait_s=card.batch_wait_s)
    scaled: dict[str, Any] = {"num_replicas": card.replicas}
    if card.most_replicas > card.replicas:
        scaled = {
            "autoscaling_config": {
                "min_replicas": card.replicas,
                "max_replicas": card.most_replicas,
                # calls, each with up to a batch of requests: where more wait, another replica answers sooner
                "target_ongoing_requests": 1,
                "upscale_delay_s": 5,
                "downscale_delay_s": 60,
            }
        }
    return ModelReplica.options(  # type: ignore[attr-defined]
        ray_actor_options={"num_cpus": size.cpus, "num_gpus": size.gpus},
        # more than a gateway sends (outbox.py): at a full replica Serve's router looks again only after up to
        # half a second, in which an overloaded one would stand idle
        max_ongoing_requests=limits.queue + limits.batch,
        max_queued_requests=limits.queue + limits.batch,
        **OPTIONS,
        **scaled,
    ).bind(store, model.title, asdict(limits), card)
