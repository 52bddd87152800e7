"""One published model under Ray Serve: answers in batches, one bad request never spoils another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import ray
from pydantic import ValidationError
from ray import serve

from penstock import registry
from penstock.errors import ModelError
from penstock.serving.batching import Batcher
from penstock.serving.calls import Reply
from penstock.serving.limits import Limits
from penstock.serving.problems import pointer
from penstock.serving.served import example
from penstock.store import Store
from penstock.workload import resolve


@serve.deployment
class ModelReplica:
    """A replica of one model. It has answered its workload's own example before it takes requests."""

    def __init__(self, store: str, reference: str, limits: dict[str, Any]) -> None:
        opened = Store.open(store)
        version = registry.find(opened, reference)
        workload = registry.workload_of(version)
        device = "cuda" if ray.get_gpu_ids() else "cpu"
        predictor = resolve(workload.predictor)(registry.load(opened, version), device)
        self.request = workload.request
        self.batcher = Batcher(predictor, Limits(**limits))
        reply = self.batcher.now(self.request.model_validate(example(self.request)))
        if "answer" not in reply:
            said = reply.get("fault") or reply["refusal"][0][1]
            raise ModelError(f"{reference} does not answer its own example: {said}")

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
    return ModelReplica.options(  # type: ignore[attr-defined]
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
