"""What a training worker holds: the network, histories as batches, one loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.workload import Batch, Objective, Schema
from workloads.recsys.config import Config
from workloads.recsys.histories import Past, past_of, some
from workloads.recsys.model import build
from workloads.recsys.neighbours import Neighbours
from workloads.recsys.sasrec import SasRec


class RecsysTask:
    """Learns ratings, or what is watched. An item of a batch is a user with all ratings."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config
        self.first = float(schema.fields["first"])
        self.module = build(config, schema)

    def collate(self, items: Batch) -> Any:
        if isinstance(self.module, SasRec):
            return self.module.batch(items)
        past = self.histories(items)
        return self.module.leave_out(past) if isinstance(self.module, Neighbours) else past

    def histories(self, items: Batch) -> Past:
        users, rows = [], []
        for row, draw in items:
            users.append(int(row["user"]))
            rows.append(
                some({k: row[k] for k in ("items", "ratings", "times")}, self.config.model.history, draw)
            )
        return past_of(users, rows, self.first)

    def objectives(self) -> Sequence[Objective[Any]]:
        learns = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        return [Objective("loss", learns, self.module.loss)]
