"""A served version of every workload without any training: an endpoint shows any answer."""

from __future__ import annotations

import pyarrow as pa

from penstock import catalog, registry
from penstock.api import configure, prepare
from penstock.store import Store
from penstock.workload import resolve

WORKLOADS = ("chatbot", "detection", "gan", "go", "pathology", "recsys", "speech", "toy")
SMALL = {"gan": ["data.pictures=400"], "go": ["data.games=40"]}


def publish(store: Store, name: str) -> None:
    """A version with the weights that training starts from."""
    workload = catalog.find(name)
    config = configure(name, "smoke", overrides=SMALL.get(name, ()))
    data = prepare(name, "synthetic", preset="smoke", overrides=SMALL.get(name, ()), store=store)
    task = resolve(workload.trainers[workload.trainer(config)])(config, data.schema)
    registry.publish(
        store,
        name,
        workload,
        config,
        data.schema,
        task.module.state_dict(),
        metrics={},
        records=pa.table({"item": ["a"], "unit": ["a"]}),
        dataset_card=data.card,
        run="untrained",
        seed=0,
    )
