"""SIGKILLs of replicas under load, on Penstock's endpoint or on stock Ray Serve, by the same schedule.

`python tests/benchmarks/kills.py penstock --kills 100` prints what came of it as JSON. Two replicas of the
probe (tests/probe.py) that take 30 ms, 20 requests a second at random moments, every answer checked, one
SIGKILL of a replica each time both are up. The stock side is the same predictor in a FastAPI deployment with
Serve's defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
for place in (str(ROOT), str(ROOT / "tests" / "installed")):
    sys.path.insert(0, place)
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "installed")])


DELAY_S = 0.03
"""What a request takes, so that there is something for a kill to hit."""


def penstock(count: int, every_s: float) -> dict[str, Any]:
    from penstock.serving.server import serve
    from penstock.store import Store
    from tests import probe
    from tests.cluster.serving import kills

    store = Store.open(tempfile.mkdtemp())
    probe.publish(store, delay_s=DELAY_S)
    with serve(store=store, port=0, replicas=2, gateways=2, block=False) as endpoint:
        assert endpoint.rollouts is not None
        app = endpoint.rollouts.traffic.ways[0].app
        url = f"{endpoint.url}/v1/models/probe/predict"
        return kills(url, {"probe@1": 1.0}, lambda: (app, "ModelReplica"), count, every_s)


def stock(count: int, every_s: float) -> dict[str, Any]:
    from ray import serve

    from penstock.serving.web.address import free_port
    from tests.benchmarks.stock import Stock
    from tests.cluster.serving import kills

    port = free_port("127.0.0.1", 0)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Stock.options(num_replicas=2).bind(DELAY_S), name="stock", route_prefix="/stock")  # type: ignore[attr-defined]
    try:
        url = f"http://127.0.0.1:{port}/stock/"  # without the slash: a redirect, and twice the requests
        return kills(url, {"probe@1": 1.0}, lambda: ("stock", "Stock"), count, every_s)
    finally:
        serve.shutdown()


def main() -> None:
    words = argparse.ArgumentParser(description="SIGKILLs of replicas under load.")
    words.add_argument("on", choices=["penstock", "stock"])
    words.add_argument("--kills", type=int, default=100)
    words.add_argument("--every", type=float, default=10.0, help="seconds of load for each kill, at least")
    asked = words.parse_args()
    from penstock.cluster import ensure_ray, shutdown

    if asked.on == "stock":  # nothing of ours in Serve's proxy
        os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = ""
    ensure_ray(cpus=4)
    try:
        print(
            json.dumps(
                {"on": asked.on, **{"penstock": penstock, "stock": stock}[asked.on](asked.kills, asked.every)}
            )
        )
    finally:
        shutdown()


if __name__ == "__main__":
    main()
