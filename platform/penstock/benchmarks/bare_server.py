"""What an endpoint is measured against: the same predictor behind FastAPI and uvicorn, one request at a time.

    python -m penstock.benchmarks.bare_server STORE NAME@VERSION PORT THREADS

It takes the request's JSON at POST /predict, until it is killed.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request, Response

from penstock import registry
from penstock.store import Store
from penstock.workload import resolve


def predictor_of(store: str, reference: str) -> tuple[Any, Any]:
    """(the predictor, the type of its requests)."""
    opened = Store.open(store)
    version = registry.find(opened, reference)
    workload = registry.workload_of(version)
    return resolve(workload.predictor)(registry.load(opened, version), "cpu"), workload.request


def main(store: str, reference: str, port: int, threads: int) -> None:
    torch.set_num_threads(threads)
    predictor, kind = predictor_of(store, reference)
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        (answer,) = predictor.predict([kind.model_validate_json(await request.body())])
        return Response(answer.model_dump_json(), media_type="application/json")

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    place, named, at, count = sys.argv[1:]
    main(place, named, int(at), int(count))
