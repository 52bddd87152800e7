"""How answers are scored, and what the report shows. A record is a user."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.data.order import key
from penstock.workload import Refusal, Row, Schema
from workloads.recsys.catalogue import Catalogue, Histories
from workloads.recsys.config import Config
from workloads.recsys.messages import MOST_RATED, Rated, RecsysAnswer, RecsysRequest, Wanted
from workloads.recsys.ranking import GAIN, TOP, coverage, measures, novelty

if TYPE_CHECKING:
    from penstock.report import Figure

SAMPLED = 100  # items that were not watched, among which a watched one is ranked (`sampled100_…`)
MOST_ASKED = 500  # held-out ratings of one user that are scored
METRICS = (
    "rmse",
    *(f"{name}_at_{TOP}" for name in ("precision", "recall", "f1", "hr", "ndcg", "mrr")),
    "coverage",
    "novelty",
    f"sampled{SAMPLED}_hr_at_{TOP}",
    f"sampled{SAMPLED}_ndcg_at_{TOP}",
)


class RecsysEvaluator:
    """Ranks are over the whole catalogue, seen items left out; the error of ratings beside them."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.schema = schema
        self.catalogue = Catalogue(schema)
        self.rated = bool(schema.fields["rated"])
        self.rarity = novelty(self.catalogue.count, int(schema.fields["users"]))

    @cached_property
    def histories(self) -> Histories:
        return Histories(self.schema)

    def requests(self, rows: Sequence[Row]) -> list[RecsysRequest]:
        ids = self.catalogue.ids
        made = []
        for row in rows:
            told = (row[f"past_{name}"][-MOST_RATED:].tolist() for name in ("items", "ratings", "times"))
            asked = zip(self.asked(row), row["times"].tolist(), strict=False)
            score = [Wanted(item=ids[item], time=time) for item, time in asked]
            made.append(
                RecsysRequest(
                    user=row["who"],
                    rated=[Rated(item=ids[i], rating=r, time=t) for i, r, t in zip(*told, strict=True)],
                    n=TOP,
                    score=score + [Wanted(item=ids[item]) for item in self.others(row)],
                )
            )
        return made

    def asked(self, row: Row) -> list[int]:
        items: list[int] = row["items"][:MOST_ASKED].tolist()
        return items

    def others(self, row: Row) -> list[int]:
        """Items that the user has not watched, drawn by the user's id."""
        _, known = self.histories.of(row["who"])
        watched = np.concatenate([known["items"], row["past_items"], row["items"]])
        free = np.setdiff1d(np.arange(len(self.catalogue)), watched)
        draw = np.random.Generator(np.random.Philox(key=key("sampled", row["who"])))
        return sorted(draw.choice(free, min(SAMPLED, len(free)), replace=False).tolist())

    def records(self, rows: Sequence[Row], answers: Sequence[RecsysAnswer | Refusal]) -> pa.Table:
        columns: dict[str, list[Any]] = {
            name: [] for name in ("who", "top", "hits", "wanted", "squared", "rated", "place", "basis")
        }
        for row, answer in zip(rows, answers, strict=True):
            wanted = self.asked(row)
            top = [] if isinstance(answer, Refusal) else [self.catalogue.number[a.item] for a in answer.items]
            every = set(row["items"].tolist())
            columns["who"].append(row["who"])
            columns["top"].append(top)
            columns["hits"].append([item in every for item in top])
            columns["wanted"].append(len(every) + row["strange"])
            columns["squared"].append(self.squared(row, answer))
            columns["rated"].append(len(wanted) if self.rated else 0)
            columns["place"].append(self.places(len(wanted), answer))
            columns["basis"].append("refusal" if isinstance(answer, Refusal) else answer.basis)
        kinds: dict[str, pa.DataType] = {
            "who": pa.string(),
            "top": pa.list_(pa.int64()),
            "hits": pa.list_(pa.bool_()),
            "wanted": pa.int64(),
            "squared": pa.float64(),
            "rated": pa.int64(),
            "place": pa.list_(pa.int64()),
            "basis": pa.string(),
        }
        return pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})

    def squared(self, row: Row, answer: RecsysAnswer | Refusal) -> float:
        """Sum of squared errors; a refusal is as wrong as can be."""
        if not self.rated:
            return 0.0
        truth = row["ratings"][:MOST_ASKED].astype(np.float64)
        if isinstance(answer, Refusal):
            low, high = float(self.schema.fields["lowest"]), float(self.schema.fields["highest"])
            return float(np.maximum(truth - low, high - truth) @ np.maximum(truth - low, high - truth))
        said = np.array([one.rating for one in answer.scores[: len(truth)]])
        return float((said - truth) @ (said - truth))

    def places(self, wanted: int, answer: RecsysAnswer | Refusal) -> list[int]:
        """Of each watched item, how many of the sampled ones stand before it."""
        if isinstance(answer, Refusal):
            return [SAMPLED] * wanted
        scores = np.array([one.score for one in answer.scores])
        return [int((scores[wanted:] >= score).sum()) for score in scores[:wanted]]

    def summarise(self, records: pa.Table) -> dict[str, float]:
        if not records.num_rows:
            return dict.fromkeys(METRICS, float("nan"))
        top, hits = recommended(records)
        rated = int(records["rated"].to_numpy().sum())
        squared = float(records["squared"].to_numpy().sum())
        place, _ = flat(records["place"])
        near = place < TOP
        gain = np.where(near, GAIN[np.minimum(place, TOP - 1)], 0)
        found = [
            (squared / rated) ** 0.5 if rated else float("nan"),
            *(values.mean() for values in measures(hits, records["wanted"].to_numpy()).values()),
            self.coverage(records),
            self.rarity[top].mean() if len(top) else float("nan"),
            near.mean() if len(near) else float("nan"),
            gain.mean() if len(near) else float("nan"),
        ]
        return {name: float(value) for name, value in zip(METRICS, found, strict=True)}

    def coverage(self, records: pa.Table) -> float:
        """Each user counts once, also where a bootstrap sample has drawn one twice."""
        _, once = np.unique(records["who"].to_numpy(zero_copy_only=False).astype(str), return_index=True)
        top, _ = flat(records["top"].take(once))
        return coverage(np.bincount(top, minlength=len(self.catalogue)), len(once))

    def figures(
        self, records: pa.Table, rows: Sequence[Row], answers: Sequence[RecsysAnswer | Refusal]
    ) -> list[Figure]:
        """How often each place of the list is right, and how popular is what is recommended."""
        from penstock.report import draw

        top, hits = recommended(records)
        count = np.sort(self.catalogue.count)[::-1]
        shown = np.bincount(top, minlength=len(self.catalogue))[
            np.argsort(-self.catalogue.count, kind="stable")
        ]

        def places(axes: Any) -> None:
            axes.bar(np.arange(1, TOP + 1), hits.mean(0))
            axes.set_xlabel("place in the list")
            axes.set_ylabel("share of users who watched it")

        def popularity(axes: Any) -> None:
            share = np.arange(1, len(count) + 1) / len(count)
            axes.plot(share, np.cumsum(count) / max(count.sum(), 1), label="ratings in training")
            axes.plot(share, np.cumsum(shown) / max(shown.sum(), 1), label="recommendations")
            axes.set_xlabel("share of the items, most watched first")
            axes.set_ylabel("share, cumulated")
            axes.legend()

        return [
            draw("Right at each place of the list", places),
            draw("Popular and rare items", popularity),
        ]


def recommended(records: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """All items that were recommended, and which places of each list are right, bool [n, TOP]."""
    top, size = flat(records["top"])
    hits = np.zeros((len(size), TOP), bool)
    hits[np.arange(TOP) < size[:, None]] = flat(records["hits"])[0]
    return top, hits


def flat(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """All values of a column of lists, and how many each row has."""
    lists = column.combine_chunks()
    return (
        lists.flatten().to_numpy(zero_copy_only=False),
        np.asarray(lists.value_lengths().to_numpy(zero_copy_only=False), np.int64),
    )
