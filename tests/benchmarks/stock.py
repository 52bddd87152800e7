"""The probe as one would write it for Ray Serve without Penstock."""

from __future__ import annotations

import torch
from fastapi import FastAPI, Response
from ray import serve

from penstock.workload import Model, Schema
from tests import probe

app = FastAPI()


@serve.deployment
@serve.ingress(app)
class Stock:
    """A FastAPI ingress that answers as `probe@1` does."""

    def __init__(self, delay_s: float) -> None:
        weights = {"scale": torch.tensor(1.0), "delay_s": torch.tensor(delay_s)}
        model: Model = Model("probe", 1, None, Schema(("left", "right")), weights)  # type: ignore[type-arg]
        self.predictor = probe.Predictor(model, "cpu")

    @app.post("/")
    def predict(self, request: probe.Request) -> Response:
        # A plain `def`: FastAPI runs it in a thread, so what takes 30 ms does not hold the replica's loop.
        (answer,) = self.predictor.predict([request])
        return Response(
            answer.model_dump_json(), media_type="application/json", headers={"X-Model": "probe@1"}
        )
