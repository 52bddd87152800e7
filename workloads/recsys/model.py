"""The network that a config asks for."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from penstock.errors import ConfigError
from penstock.workload import Schema
from workloads.recsys.baselines import Bias, ItemKnn, Popularity
from workloads.recsys.catalogue import Catalogue
from workloads.recsys.config import Config
from workloads.recsys.factors import Dense, Factors
from workloads.recsys.histories import Past
from workloads.recsys.neighbours import Neighbours
from workloads.recsys.sasrec import SasRec

RATES = ("neighbours", "dense", "factors", "bias")
"""Kinds that learn from ratings; the others learn from what was watched."""


class Recommender(Protocol):
    """What every kind can do; it is an `nn.Module` as well."""

    def loss(self, batch: Any) -> tuple[Tensor, float]: ...

    def rate(self, past: Past, item: Tensor, day: Tensor) -> Tensor:
        """Ratings that the one user of `past` would give to items, int64 [N], on days, float32 [N]; [N]."""
        ...

    def rank(self, past: Past) -> Tensor:
        """Scores of all items for the one user of `past`, [I]; higher is better."""
        ...


def build(config: Config, schema: Schema, catalogue: Catalogue | None = None) -> nn.Module:
    """A fresh network; its `state_dict` holds only what is learned, statistics come from the schema."""
    known = catalogue or Catalogue(schema)
    net = config.model
    if net.kind in RATES and not schema.fields["rated"]:
        raise ConfigError(
            f"model.kind = {net.kind!r}: the data holds no ratings; use 'sasrec', 'itemknn' or 'popularity'"
        )
    match net.kind:
        case "neighbours":
            return Neighbours(net, known)
        case "dense":
            return Dense(net, known)
        case "factors":
            return Factors(net, known)
        case "sasrec":
            return SasRec(net, known, schema)
        case "itemknn":
            return ItemKnn(known, schema)
        case "bias":
            return Bias(known)
        case "popularity":
            return Popularity(known)
