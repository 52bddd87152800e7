"""The contract: what a workload says about itself, and the protocols its parts fulfil.

Read this file first. It imports neither torch nor Ray, so that `penstock list` and errors in a
config stay quick. A workload is one `Workload(…)` value; everything heavy in it is named as
"module:object" and imported where it is needed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel

from penstock.errors import ConfigError, PenstockError, nearest

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import nn

C = TypeVar("C")  # the workload's config
B = TypeVar("B")  # its batch
Q = TypeVar("Q", bound=BaseModel)  # its request
QIn = TypeVar("QIn", bound=BaseModel, contravariant=True)
AOut = TypeVar("AOut", bound=BaseModel, covariant=True)
AIn = TypeVar("AIn", bound=BaseModel, contravariant=True)
BIn = TypeVar("BIn", contravariant=True)

Row = Mapping[str, Any]
"""One item by column: numpy arrays, bytes, str, int or float."""

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
"""What workloads, models and runs may be called (`NAME.fullmatch`)."""


@dataclass(frozen=True)
class Goal:
    """The one metric a run is judged by."""

    metric: str
    mode: Literal["max", "min"]

    def better(self, new: float, old: float) -> bool:
        """Whether `new` beats `old`; anything beats NaN, NaN beats nothing."""
        if new != new:
            return False
        return old != old or (new > old if self.mode == "max" else new < old)


@dataclass(frozen=True)
class Span:
    """A range of numbers to search: `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Choice:
    """A set of values to search."""

    options: tuple[Any, ...]


@dataclass(frozen=True)
class Schema:
    """What a data set fixes for every model trained on it; travels in the model's version.

    `labels`: class names, index = class. `fields`: other JSON facts (sampling rate, shapes).
    `assets`: small files by name (a tokenizer, id maps).
    """

    labels: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    assets: Mapping[str, bytes] = field(default_factory=dict)


# ---------------------------------------------------------------- raw files -> rows


@dataclass(frozen=True)
class Item:
    """One thing in a source, found by `scan` without reading it.

    `name`: unique in the source, stable across machines (a relative path); order and splits
    hang on it. `split`: "train", "validation", "test", or "" where the source has no convention (a seeded
    hash decides). `unit`: what intervals resample (a speaker, a slide); "" means the item itself.
    `where`: how `read` finds it (JSON values). `group`: items that a hash must not part (the replies of a
    dialogue); "" means the item itself.
    """

    name: str
    split: Literal["train", "validation", "test", ""] = ""
    unit: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""


@dataclass(frozen=True)
class Fault:
    """An item that cannot be used: why, in a few words. Stands where its row would."""

    why: str


@dataclass(frozen=True)
class Scan:
    """What a source holds. `files`: the raw files, whose names, sizes and times decide whether
    anything changed since the last prepare (none for generated data). `exclusive`: every item has exactly
    one of the labels, `label` in its raw row (int); otherwise it may show many of them or none, `labels`
    (int64 [n]), and a label without items is no mistake."""

    items: Sequence[Item]
    schema: Schema
    files: Sequence[Path] = ()
    licence: str = "unknown"
    exclusive: bool = True


class Source(Protocol):
    """Reads one raw format. Made without arguments, holds no state; runs on any worker.

    `config` is the `data` section of the workload's config, the only part a data set may depend on.
    """

    def scan(self, path: str, config: Any) -> Scan:
        """List what `path` holds; DataError names what is missing and the way out."""
        ...

    def read(self, items: Sequence[Item], config: Any, schema: Schema) -> Iterable[Row | Fault]:
        """Raw rows in the order of `items`: the original bytes as a client would send them, and
        what scoring needs (`label` or `labels` where there are classes, see Scan). Validation and
        test splits are stored like this."""
        ...


# ---------------------------------------------------------------- rows -> a trained module


class Batch(Protocol):
    """The items of a micro-batch in their order: (train row, its own random generator).

    The generator is keyed by (seed, epoch, item) and is good until the next item is taken: draw
    what an item needs while it is at hand, work on the whole batch afterwards.
    """

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[Row, np.random.Generator]]: ...

    def partner(self, generator: np.random.Generator) -> Row:
        """A row to mix an item with (mosaic, mixup), drawn by the item's generator from the whole training
        set: the rows of the micro-batch depend on the number of workers."""
        ...


class Loss(Protocol[BIn]):
    def __call__(self, batch: BIn) -> tuple[torch.Tensor, float | torch.Tensor]: ...


@dataclass(frozen=True)
class Objective(Generic[B]):
    """One thing to minimise. `loss(batch)` -> (sum over the items, their weight); the platform
    divides by the weight of the whole global batch. `moves`: the parameters it may change; every
    parameter is moved by exactly one objective. `loss` must reach parameters through modules of
    `Task.module`, called the usual way (FSDP gathers them there)."""

    name: str
    moves: Sequence[nn.Parameter]
    loss: Loss[B]


class Task(Protocol[B]):
    """What one training worker holds. Made as `Task(config, schema)` under a fixed seed, so every
    worker starts from the same weights. Batches are moved to the device by the platform (tensors in
    tuples, lists, dicts, dataclasses or named tuples)."""

    module: nn.Module
    """Everything that learns. Its state_dict is what is published, what a Predictor is given."""

    def collate(self, items: Batch) -> B:
        """Augment and stack. Must also work on no items at all: the tail of an epoch can leave a
        worker empty, and it still takes part in the reduction."""
        ...

    def objectives(self) -> Sequence[Objective[B]]: ...


# ---------------------------------------------------------------- a trained module -> answers


@dataclass(frozen=True)
class Model(Generic[C]):
    """A trained model as a Predictor receives it; `version` 0 while it is still in training."""

    name: str
    version: int
    config: C
    schema: Schema
    weights: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Refusal:
    """A request that is well-formed but cannot be answered (a truncated picture). HTTP says 422.

    `pointer`: JSON pointer to the field, such as "/image".
    """

    detail: str
    pointer: str = ""


class Predictor(Protocol[QIn, AOut]):
    """The only inference code: validation, evaluate, batch, CLI and HTTP all call it. Made as
    `Predictor(model, device)`."""

    def predict(self, requests: Sequence[QIn]) -> Sequence[AOut | Refusal]:
        """Answers in order; one bad request is a Refusal and never spoils its neighbours. An
        answer must not depend on what else is in the batch (beyond float noise)."""
        ...

    # Optional: what penstock.capabilities names (frames of a camera, a reply in pieces).


class Evaluator(Protocol[Q, AIn]):
    """How answers are scored; evaluate, compare, intervals and validation use only this. Made as
    `Evaluator(config, schema)`."""

    def requests(self, rows: Sequence[Row]) -> list[Q]:
        """Raw rows as a client would send them."""
        ...

    def records(self, rows: Sequence[Row], answers: Sequence[AIn | Refusal]) -> pa.Table:
        """One record per item, with what `summarise` needs; a Refusal scores as wrong. The
        platform adds the columns `item` and `unit`."""
        ...

    def summarise(self, records: pa.Table) -> dict[str, float]:
        """Metrics by their standard names; NaN where undefined. Called for each bootstrap sample."""
        ...

    # Optional, for report.html:
    # figures(records, rows, answers) -> Sequence[penstock.report.Figure]: the records of the whole test
    # split, a dozen of its rows and the answers to those.
    # snapshot(predictor) -> bytes: a PNG of what the weights do now, drawn after each validation; the page
    # shows the last one and all of them in motion.


# ---------------------------------------------------------------- the whole


@dataclass(frozen=True)
class Workload(Generic[C]):
    """Something the platform can prepare, train, tune, evaluate, publish and serve.

    `config` is a frozen dataclass with (at least) the sections `data`, `optim: penstock.config.Optim`
    and `train: penstock.config.Train`; every field has a real default. Strings are "module:object".
    """

    name: str
    """The CLI word."""
    config: type[C]
    sources: Mapping[str, str]
    """Format -> Source; `synthetic` is one of them."""
    decode: str
    """`decode(row, config.data, schema) -> Row`: a raw row to a train row (decoded, ready-sized arrays), made
    by the predictor's own pre-processing; ValueError names the fault. Every item passes it at prepare."""
    trainers: Mapping[str, str]
    """How it learns: {"supervised": Task}. The first is the default; where there are several, the config has
    a field `trainer` that names one."""
    predictor: str
    evaluator: str
    request: type[BaseModel]
    answer: type[BaseModel]
    goal: Goal
    space: Mapping[str, Span | Choice]
    """Default search space by dotted setting."""
    presets: Mapping[str, C]
    """"smoke" (<= 40 s on 2 cores, >= 3 checkpoints), "default", "gpu"."""
    fit: str | None = None
    """`fit(train, config.data, schema) -> {name: bytes}`: what has to be learned from the training split as a
    whole before a model can be (a tokenizer, a judge of generated pictures). `train` is a
    penstock.data.shards.Shards of train rows. Called once, at prepare; its files join `schema.assets`, so
    that every model of a data set has the same. Pure: seeded, one thread."""
    summary: str = ""
    """One line for `penstock list` and the served card."""
    exporter: str | None = None
    """A penstock.graphs.Exporter: how a trained model leaves for another runtime (`penstock export`)."""
    commands: str | None = None
    """A typer app of verbs of its own: `penstock <name> …`; its `bench` is `penstock bench <name>`, too."""

    def trainer(self, config: C) -> str:
        """The one of `trainers` that `config` asks for: its field `trainer`, or the first."""
        name: str = getattr(config, "trainer", next(iter(self.trainers)))
        if name not in self.trainers:
            raise ConfigError(f"trainer = {name!r}: no such one{nearest(name, self.trainers)}")
        return name


def resolve(reference: str) -> Any:
    """The object that "module:object" names; PenstockError when there is none."""
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PenstockError(f"cannot load {reference!r}: {error}; is the package installed?") from error
