"""One published model under Ray Serve: answers in batches, one bad request never spoils another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from time import monotonic
from typing import Any

from pydantic import BaseModel, ValidationError
from ray import serve

from penstock.errors import ModelError
from penstock.serving.calls import Reply
from penstock.serving.limits import Limits
from penstock.serving.problems import pointer
from penstock.serving.served import example
from penstock.workload import Predictor, Refusal


class Batcher:
    """A predictor behind a queue. Every request gets a Reply, whatever the predictor does."""

    def __init__(self, predictor: Predictor[Any, Any], limits: Limits) -> None:
        self._predictor = predictor
        # one thread: the event loop stays free for health checks while the model computes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._stuck_s = limits.stuck_s
        self._waiting = 0
        self._moved = monotonic()
        self._batched.set_max_batch_size(limits.batch)  # type: ignore[attr-defined]
        self._batched.set_batch_wait_timeout_s(limits.batch_wait_s)  # type: ignore[attr-defined]

    async def ask(self, request: BaseModel) -> Reply:
        """The reply to one valid request, computed together with those that wait beside it."""
        if self._waiting == 0:
            self._moved = monotonic()
        self._waiting += 1
        try:
            reply: Reply = await self._batched(request)  # type: ignore[call-arg, arg-type, assignment]
            return reply
        finally:
            self._waiting -= 1

    def check(self) -> None:
        """RuntimeError when requests wait and nothing has moved for long: Serve replaces the replica."""
        if self._waiting and monotonic() - self._moved > self._stuck_s:
            raise RuntimeError(
                f"{self._waiting} requests wait, no batch has finished for {self._stuck_s:g} s"
            )

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0)
    async def _batched(self, requests: list[BaseModel]) -> list[Reply]:
        # must not raise: an exception here would be everybody's answer
        loop = asyncio.get_running_loop()
        replies = await loop.run_in_executor(self._thread, self._replies, requests)
        self._moved = monotonic()
        return replies

    def _replies(self, requests: Sequence[BaseModel]) -> list[Reply]:
        try:
            answers = self._predictor.predict(requests)
            if len(answers) != len(requests):
                raise ValueError(f"{len(answers)} answers to {len(requests)} requests")
            return [_reply(answer) for answer in answers]
        except Exception as error:
            # whichever request it was, the others get their answers
            if len(requests) > 1:
                return [self._replies([request])[0] for request in requests]
            return [Reply(fault=f"{type(error).__name__}: {error}"[:1000])]


def _reply(answer: BaseModel | Refusal) -> Reply:
    if isinstance(answer, Refusal):
        return Reply(refusal=[(answer.pointer, answer.detail)])
    return Reply(answer=answer.model_dump_json().encode())


@serve.deployment
class ModelReplica:
    """A replica of one model. It has answered its workload's own example before it takes requests."""

    async def __init__(self, store: str, reference: str, limits: dict[str, Any]) -> None:
        self.batcher: Batcher
        await asyncio.to_thread(self._load, store, reference, Limits(**limits))
        reply = await self.predict(example(self.request))
        if "answer" not in reply:
            raise ModelError(f"{reference} does not answer its own example: {dict(reply)}")

    def _load(self, store: str, reference: str, limits: Limits) -> None:
        import ray

        from penstock import catalog, registry
        from penstock.store import Store
        from penstock.workload import resolve

        opened = Store.open(store)
        card = registry.find(opened, reference).card
        workload = catalog.find_reference(card["workload"], card["reference"])
        device = "cuda" if ray.get_gpu_ids() else "cpu"
        predictor = resolve(workload.predictor)(registry.load(opened, reference), device)
        self.request: type[BaseModel] = workload.request
        self.batcher = Batcher(predictor, limits)

    async def predict(self, values: Mapping[str, Any]) -> Reply:
        """The reply to a request's values (JSON values, bytes where a field holds media)."""
        try:
            request = self.request.model_validate(values)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            return Reply(refusal=[(pointer(one["loc"]), one["msg"]) for one in found])
        return await self.batcher.ask(request)

    async def ready(self) -> bool:
        """True: a replica that can be asked has answered its example."""
        return True

    def check_health(self) -> None:
        self.batcher.check()


def model_app(store: str, reference: str, limits: Limits, cpus: float, gpus: float) -> serve.Application:
    """One model as a Serve application. `reference`: name@version, fixed for the application's life."""
    return ModelReplica.options(  # type: ignore[no-any-return]
        num_replicas=1,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        # two batches: one computing, one filling
        max_ongoing_requests=2 * limits.batch,
        max_queued_requests=limits.queue + limits.batch,
        health_check_period_s=1,
        health_check_timeout_s=30,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=10,
        max_constructor_retry_count=2,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    ).bind(store, reference, asdict(limits))
