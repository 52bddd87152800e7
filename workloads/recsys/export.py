"""Any recommender as two graphs: a user's past to scores of all items, and to ratings of the asked ones."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from penstock.graphs import Export, Graph
from workloads.recsys.histories import Past
from workloads.recsys.model import Recommender
from workloads.recsys.predict import RecsysPredictor


class Part(nn.Module):
    """A recommender, and what it holds beside its own modules."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.beside = getattr(getattr(inner, "rating", None), "bias", None)

    @property
    def recommender(self) -> Recommender:
        return cast(Recommender, self.inner)


class Rank(Part):
    """The past of one user, user int64 [1] and items, ratings, days [H] -> scores [I]."""

    def forward(self, user: Tensor, item: Tensor, rating: Tensor, day: Tensor) -> Tensor:
        return self.recommender.rank(past_of_one(user, item, rating, day))


class Rate(Part):
    """The same and asked items int64 [N] on days float32 [N] -> ratings [N]."""

    def forward(
        self, user: Tensor, item: Tensor, rating: Tensor, day: Tensor, asked: Tensor, when: Tensor
    ) -> Tensor:
        return self.recommender.rate(past_of_one(user, item, rating, day), asked, when)


def past_of_one(user: Tensor, item: Tensor, rating: Tensor, day: Tensor) -> Past:
    size = torch.ones_like(item).sum()[None]
    return Past(user, size, item, rating, day, torch.zeros_like(item))


class Asked:
    """Who asks both, in the shape of any recommender."""

    def __init__(self, rank: Rank, rate: Rate) -> None:
        self.both = rank, rate

    def rank(self, past: Past) -> Tensor:
        scores: Tensor = self.both[0](past.user, past.item, past.rating, past.day)
        return scores

    def rate(self, past: Past, item: Tensor, day: Tensor) -> Tensor:
        ratings: Tensor = self.both[1](past.user, past.item, past.rating, past.day, item, day)
        return ratings


def export(predictor: RecsysPredictor) -> Export:
    """Every kind can leave, one user at a time."""
    rank, rate = Rank(predictor.module), Rate(predictor.module)
    predictor.module = cast(nn.Module, Asked(rank, rate))
    fields, catalogue = predictor.fields, predictor.catalogue
    past = {"user": (1,), "item": ("past",), "rating": ("past",), "day": ("past",)}
    graphs = {"rank": Graph(rank, past, {"scores": (len(catalogue),)})}
    if fields["rated"]:
        asked = {**past, "asked": ("asked",), "when": ("asked",)}
        graphs["rate"] = Graph(rate, asked, {"ratings": ("asked",)})
    return Export(
        graphs,
        preprocessing={
            "steps": [
                "`item`: numbers in `items` of what the user rated or watched, oldest first, the newest "
                "`history`; of an item rated twice the last counts",
                "`rating`: as given, else `mean`; `day`: days since `first` (Unix seconds)",
                "`user`: the number of a user of the training split (assets/users.arrow), else -1",
                "one user at a time; a user without a past is ranked by how often items were watched",
            ],
            "history": predictor.history,
            "first": fields["first"],
            "mean": catalogue.mean,
        },
        postprocessing={
            "steps": [
                "leave out what was watched, where the request says so, and other genres than it asks for",
                "the best scores, falling, of equals the first item; `ratings` of these, within `lowest` and "
                "`highest`",
            ],
            "lowest": fields["lowest"],
            "highest": fields["highest"],
            "items": list(catalogue.ids),
        },
        assets=["users.arrow"],
    )
