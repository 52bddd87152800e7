"""An endpoint for `penstock bench serve`, until SIGTERM: `python -m penstock.benchmarks.served STORE NAME@V
proxy|haproxy BATCH` prints {"url": …} once it is ready. BATCH 0: as the card says. All the replicas that the
card allows are there from the start: one that starts while others are measured would take their cores."""

from __future__ import annotations

import json
import sys

from penstock import registry
from penstock.serving.limits import Limits
from penstock.serving.server import serve
from penstock.store import Store

if __name__ == "__main__":
    store, reference, ingress, batch = sys.argv[1:]
    limits = Limits(rate=1e6, **({"batch": int(batch)} if int(batch) else {}))
    opened = Store.open(store)
    serve(
        [reference],
        store=opened,
        port=0,
        replicas=registry.Serving.of(registry.find(opened, reference).card).most_replicas,
        ingress=ingress,  # type: ignore[arg-type]
        limits=limits,
        on_ready=lambda url: print(json.dumps({"url": url}), flush=True),
    )
