"""The same predictor behind LitServe, with dynamic batches of the same size and wait.

    python -m penstock.benchmarks.lit_server STORE NAME@VERSION PORT THREADS BATCH WAIT_S WORKERS

It takes the request's JSON at POST /predict, until it is killed. LitServe has to be installed
(pip install 'penstock[peers]'); it starts its workers in new processes, which import this module again.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve as ls
import torch

from penstock.benchmarks.bare_server import predictor_of


class Api(ls.LitAPI):  # type: ignore[misc]
    """A version of ours, as LitServe wants it."""

    def __init__(self, store: str, reference: str, threads: int, batch: int, wait_s: float) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=wait_s)
        self.named, self.threads = (store, reference), threads

    def setup(self, device: str) -> None:
        torch.set_num_threads(self.threads)
        self.predictor, self.kind = predictor_of(*self.named)

    def decode_request(self, request):  # type: ignore[no-untyped-def] # LitServe goes by the annotation
        return self.kind.model_validate(request)

    def batch(self, inputs: list[Any]) -> list[Any]:
        return list(inputs)

    def predict(self, x: Any) -> Any:
        if isinstance(x, list):
            return list(self.predictor.predict(x))
        return self.predictor.predict([x])[0]

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any) -> Any:
        return output.model_dump(mode="json")


if __name__ == "__main__":
    place, named, at, count, size, wait, workers = sys.argv[1:]
    api = Api(place, named, int(count), int(size), float(wait))
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=int(workers))
    server.run(host="127.0.0.1", port=int(at), log_level="error", generate_client_file=False)
