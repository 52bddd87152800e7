"""How answers are scored, and what the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.evaluation.measures import matrix
from penstock.workload import Refusal, Row, Schema
from workloads.gan.config import Config
from workloads.gan.data import grid, png, square
from workloads.gan.distances import cubic, frechet_distance, kernel_distance
from workloads.gan.judge import FEATURES, Reference, judged
from workloads.gan.messages import GanAnswer, GanRequest
from workloads.gan.model import known_classes
from workloads.gan.neighbours import Neighbours, memorised
from workloads.gan.style import Style

if TYPE_CHECKING:
    from penstock.report import Figure
    from workloads.gan.predict import GanPredictor

KEPT_PICTURES = 128  # seeds below it keep their picture in the records, for the report
COVERED = 1 / 4  # a class is covered when it is drawn at least this often, against its share of the data
ACROSS = 12  # pictures of a class in the report
SNAPSHOT = 16  # seeds drawn after each validation


class GanEvaluator:
    """Each row asks for one picture: of its seed, and of its class where the model knows classes. Distances
    are to the real training pictures, in the features of the data set's judge."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.size, self.channels = config.data.size, int(schema.fields["channels"])
        self.labels = schema.labels
        self.asks = known_classes(config, schema) > 0
        self.reference = Reference(schema, self.size)
        self.neighbours = Neighbours(schema)
        self.style = Style.of_config(config, self.neighbours.whole)

    def requests(self, rows: Sequence[Row]) -> list[GanRequest]:
        return [
            GanRequest(seed=row["seed"], label=self.labels[row["label"]] if self.asks else None)
            for row in rows
        ]

    def records(self, rows: Sequence[Row], answers: Sequence[GanAnswer | Refusal]) -> pa.Table:
        given = [None if isinstance(a, Refusal) else a.images[0] for a in answers]
        made = np.array([raw is not None for raw in given], bool)
        images = self.pixels([raw for raw in given if raw is not None])
        near = self.neighbours.nearest(images)
        real_features, real_said = judged(self.reference.judge, self.pixels([row["image"] for row in rows]))
        features, said = judged(self.reference.judge, images)
        seeds = [int(row["seed"]) for row in rows]
        pictures = [raw if seed < KEPT_PICTURES else None for seed, raw in zip(seeds, given, strict=True)]
        columns: dict[str, Any] = {
            "seed": pa.array(seeds, pa.int64()),
            "label": pa.array([int(row.get("label", -1)) for row in rows], pa.int64()),
            "said": spread(said, made, -1),
            "nearest": spread(near.place, made, -1),
            "first": spread(near.first, made, np.nan),
            "second": spread(near.second, made, np.nan),
            "features": lists(spread(features, made, np.nan)),
            "across": spread(self.across(features), made, np.nan),
            "real_said": real_said,
            "real_features": lists(real_features),
            "picture": pa.array(pictures, pa.binary()),
        }
        if self.style is not None:
            columns["style"] = spread(self.style.distances(images), made, np.nan)
            columns["real_style"] = self.style.distances(self.pixels([row["image"] for row in rows]))
        return pa.table(columns)

    def across(self, features: NDArray[Any]) -> NDArray[Any]:
        """The mean kernel of each with the real training pictures, [n]."""
        return np.asarray(cubic(features.astype(np.float64), self.reference.features).mean(1))

    def pixels(self, raw: Sequence[bytes]) -> NDArray[Any]:
        """uint8 [n, C, S, S]"""
        if not raw:
            return np.empty((0, self.channels, self.size, self.size), np.uint8)
        return np.stack([square(one, self.size, self.channels) for one in raw])

    def summarise(self, records: pa.Table) -> dict[str, float]:
        _, index, weight = np.unique(records["seed"].to_numpy(), return_index=True, return_counts=True)
        weight = weight.astype(np.float64)
        column = {
            name: records[name].to_numpy()[index]
            for name in ("label", "said", "real_said", "first", "second", "across", "style", "real_style")
            if name in records.column_names
        }
        said, label = column["said"], column["label"]
        made = said >= 0
        features = matrix(records["features"], FEATURES).astype(np.float64)[index][made]
        metrics = {
            "frechet_distance": frechet_distance(features, weight[made], self.reference.moments),
            "frechet_distance_real": frechet_distance(
                matrix(records["real_features"], FEATURES).astype(np.float64)[index],
                weight,
                self.reference.moments,
            ),
            "kid": kernel_distance(features, weight[made], column["across"][made], self.reference.inner),
            "memorised": mean(memorised(column["first"][made], column["second"][made]), weight[made]),
        }
        if self.labels:
            metrics["coverage"] = self.coverage(said[made], weight[made])
            metrics["judge_accuracy"] = mean(column["real_said"] == label, weight)
        if self.asks:
            metrics["class_fidelity"] = mean(said == label, weight)
        if self.style is not None:
            metrics["style_distance"] = mean(column["style"][made], weight[made])
            metrics["style_distance_real"] = mean(column["real_style"], weight)
        return metrics

    def coverage(self, said: NDArray[Any], weight: NDArray[Any]) -> float:
        """The share of the classes that are drawn at least COVERED times as often as the data has them."""
        if not len(said):
            return float("nan")
        share = np.bincount(said, weight, len(self.labels)) / weight.sum()
        return float((share >= COVERED * self.reference.shares).mean())

    # ---------------------------------------------------------------- the report

    def snapshot(self, predictor: GanPredictor) -> bytes:
        """The same 16 seeds as a grid of 4 x 4."""
        answers = predictor.predict([GanRequest(seed=seed) for seed in range(SNAPSHOT)])
        images = self.pixels([answer.images[0] for answer in answers if isinstance(answer, GanAnswer)])
        return png(enlarged(grid(list(images), gap=2), 300))

    def figures(self, records: pa.Table, rows: Sequence[Row], answers: Sequence[Any]) -> Sequence[Figure]:
        from penstock.report import confusion_figure, picture_figure

        said, label = records["said"].to_numpy(), records["label"].to_numpy()
        raw = records["picture"].to_pylist()
        kept = [i for i, picture in enumerate(raw) if picture is not None]
        if not kept:
            return []
        images = dict(zip(kept, self.pixels([raw[i] for i in kept]), strict=True))
        nearest = records["nearest"].to_numpy()
        figures = []
        if self.labels:
            shown = label if self.asks else said
            of_class = [[i for i in kept if shown[i] == k][:ACROSS] for k in range(len(self.labels))]
            names = ", ".join(name for name, some in zip(self.labels, of_class, strict=True) if some)
            how = "asked for" if self.asks else "as the judge sees them"
            filled = [some for some in of_class if some]
            sheet = grid([self.place(images, some, k) for some in filled for k in range(ACROSS)], ACROSS)
            caption = f"One row a class, {how}: {names}"
            figures.append(picture_figure("Generated, by class", png(enlarged(sheet)), caption))
        pairs = [pair for i in kept[: 2 * ACROSS] for pair in (images[i], self.real(int(nearest[i])))]
        caption = "Pairs: a generated picture, and the training picture nearest to it"
        sheet = grid(pairs, ACROSS)
        figures.append(picture_figure("Nearest training pictures", png(enlarged(sheet)), caption))
        if self.asks:
            figures.append(confusion_figure(label, said, list(self.labels)))
        return figures

    def place(self, images: dict[int, NDArray[Any]], chosen: Sequence[int], column: int) -> NDArray[Any]:
        """A picture of the sheet, white where the class has no more."""
        return images[chosen[column]] if column < len(chosen) else self.blank

    @cached_property
    def blank(self) -> NDArray[Any]:
        return np.full((self.channels, self.size, self.size), 255, np.uint8)

    def real(self, index: int) -> NDArray[Any]:
        """The thumbnail of a training picture at full size."""
        small = self.neighbours.thumbnails[index]
        times = self.size // small.shape[-1]
        return np.asarray(small.repeat(times, 1).repeat(times, 2))


def enlarged(image: NDArray[Any], width: int = 700) -> NDArray[Any]:
    """Every pixel as a square, as far as the whole stays within `width` pixels."""
    times = max(1, width // image.shape[-1])
    return image.repeat(times, 1).repeat(times, 2)


def spread(values: NDArray[Any], made: NDArray[Any], missing: float) -> NDArray[Any]:
    """Values of those that were made at their places, `missing` at the others."""
    full = np.full((len(made), *values.shape[1:]), missing, values.dtype)
    full[made] = values
    return full


def lists(features: NDArray[Any]) -> pa.Array:
    """[n, F] as a column of lists."""
    offsets = np.arange(0, features.size + 1, features.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, features.astype(np.float32).ravel())


def mean(values: NDArray[Any], weight: NDArray[Any]) -> float:
    return float(weight @ values / weight.sum()) if len(values) else float("nan")
