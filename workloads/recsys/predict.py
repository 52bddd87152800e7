"""Users to items: the only inference code of this workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.errors import nearest
from penstock.nn import one_thread
from penstock.workload import Model, Refusal
from workloads.recsys.catalogue import Catalogue, Histories
from workloads.recsys.config import Config
from workloads.recsys.histories import DAY, Past, Watched, newest, past_of
from workloads.recsys.messages import Recommended, RecsysAnswer, RecsysRequest, Wanted
from workloads.recsys.model import build


class RecsysPredictor:
    """A loaded recommender. Each request is answered alone, so that no other changes a bit of it."""

    def __init__(self, model: Model[Config], device: str) -> None:
        self.catalogue = Catalogue(model.schema)
        self.histories = Histories(model.schema)
        self.fields = model.schema.fields
        self.history, self.device = model.config.model.history, device
        self.module = build(model.config, model.schema, self.catalogue)
        self.module.load_state_dict(dict(model.weights))
        self.module.float().to(device).eval().requires_grad_(False)

    def predict(self, requests: Sequence[RecsysRequest]) -> list[RecsysAnswer | Refusal]:
        with one_thread(), torch.inference_mode():
            return [self.answer(request) for request in requests]

    def answer(self, request: RecsysRequest) -> RecsysAnswer | Refusal:
        catalogue = self.catalogue
        asked = {
            **{f"/rated/{i}/item": one.item for i, one in enumerate(request.rated)},
            **{f"/score/{i}/item": one.item for i, one in enumerate(request.score)},
            **({"/similar_to": request.similar_to} if request.similar_to else {}),
        }
        for pointer, item in asked.items():
            if item not in catalogue.number:
                return Refusal(f"item {item!r} is not in the catalogue of {len(catalogue)} items", pointer)
        open_ = np.ones(len(catalogue), bool)
        if request.genres:
            wrong = [kind for kind in request.genres if kind not in catalogue.kinds]
            if wrong:
                return Refusal(
                    f"no item is of genre {wrong[0]!r}{nearest(wrong[0], catalogue.kinds)}", "/genres"
                )
            open_ = np.array([any(kind in kinds for kind in request.genres) for kinds in catalogue.genres])
        user, known = self.histories.of(request.user)
        watched = self.extended(known, request)
        if request.exclude_seen:
            open_[watched["items"]] = False
        if request.n and not open_.any():
            which = "all of these genres" if request.genres else "all"
            return Refusal(
                f"no item is left: {which} are watched; set exclude_seen to false", "/exclude_seen"
            )
        past = past_of([user], [newest(watched, self.history)], float(self.fields["first"]))
        past = Past(*(part.to(self.device) for part in past))
        score, basis = self.scores(past)
        best = np.flatnonzero(open_)
        best = best[np.argsort(-score[best], kind="stable")[: request.n]]
        now = max(float(self.fields["last"]), float(watched["times"][-1]) if len(watched["times"]) else 0.0)
        return RecsysAnswer(
            basis="history" if basis else "popularity",
            items=self.named(best, score[best], self.rated(past, best, np.full(len(best), now))),
            scores=self.scored(past, request.score, score, now),
            similar=self.similar(request.similar_to, request.n),
        )

    def extended(self, known: Watched, request: RecsysRequest) -> Mapping[str, NDArray[np.generic]]:
        """The known history and what the request tells, oldest first; of an item rated twice the last
        counts."""
        if not request.rated:
            return known
        usual = self.catalogue.mean
        told = {
            "items": np.array([self.catalogue.number[one.item] for one in request.rated], np.int32),
            "ratings": np.array([usual if r.rating is None else r.rating for r in request.rated], np.float32),
            "times": np.array(
                [self.fields["last"] if r.time is None else r.time for r in request.rated], np.int64
            ),
        }
        both = {name: np.concatenate([known[name], told[name]]) for name in told}
        _, last = np.unique(both["items"][::-1], return_index=True)
        kept = np.sort(len(both["items"]) - 1 - last)
        kept = kept[np.argsort(both["times"][kept], kind="stable")]
        return {name: values[kept] for name, values in both.items()}

    def scores(self, past: Past) -> tuple[NDArray[np.float64], bool]:
        """Of every item, [I], and whether they are this user's own."""
        if not len(past.item):
            return np.log1p(self.catalogue.count.astype(np.float64)), False
        return self.module.rank(past).double().cpu().numpy(), True  # type: ignore[operator]

    def rated(self, past: Past, items: NDArray[np.int64], times: NDArray[np.float64]) -> list[float] | None:
        """Predicted ratings, within what the data holds; None where it has no ratings."""
        if not self.fields["rated"]:
            return None
        days = ((times - float(self.fields["first"])) / DAY).astype(np.float32)
        asked = (torch.from_numpy(part).to(self.device) for part in (items.astype(np.int64), days))
        found = self.module.rate(past, *asked)  # type: ignore[operator]
        low, high = float(self.fields["lowest"]), float(self.fields["highest"])
        ratings: list[float] = found.double().clamp(low, high).cpu().tolist()
        return ratings

    def scored(
        self, past: Past, wanted: Sequence[Wanted], score: NDArray[np.float64], now: float
    ) -> list[Recommended]:
        if not wanted:
            return []
        items = np.array([self.catalogue.number[one.item] for one in wanted], np.int64)
        times = np.array([now if one.time is None else one.time for one in wanted])
        return self.named(items, score[items], self.rated(past, items, times))

    def similar(self, item: str | None, count: int) -> list[Recommended]:
        if item is None:
            return []
        number = self.catalogue.number[item]
        vectors = self.catalogue.vectors.astype(np.float64)
        near = vectors @ vectors[number]
        near[number] = -np.inf
        best = np.argsort(-near, kind="stable")[:count]
        best = best[near[best] > 0]  # who watched it watched nothing of the others
        return self.named(best, near[best], None)

    def named(
        self, items: NDArray[np.int64], scores: NDArray[np.float64], ratings: Sequence[float] | None
    ) -> list[Recommended]:
        return [
            Recommended(
                item=self.catalogue.ids[item],
                title=self.catalogue.titles[item],
                score=float(score),
                rating=None if ratings is None else ratings[place],
            )
            for place, (item, score) in enumerate(zip(items.tolist(), scores, strict=True))
        ]
