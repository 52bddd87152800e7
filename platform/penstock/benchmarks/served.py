"""An endpoint for `penstock bench serve`, until SIGTERM: `python -m penstock.benchmarks.served STORE NAME@V
proxy|haproxy BATCH` prints {"url": …} once it is ready. BATCH 0: as the card says."""

from __future__ import annotations

import json
import sys

from penstock.serving.limits import Limits
from penstock.serving.server import serve

if __name__ == "__main__":
    store, reference, ingress, batch = sys.argv[1:]
    limits = Limits(rate=1e6, **({"batch": int(batch)} if int(batch) else {}))
    serve(
        [reference],
        store=store,
        port=0,
        ingress=ingress,  # type: ignore[arg-type]
        limits=limits,
        on_ready=lambda url: print(json.dumps({"url": url}), flush=True),
    )
