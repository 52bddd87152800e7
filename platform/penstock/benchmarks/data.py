"""Prepared shards against a DataLoader that decodes the raw files, both with two processes."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.benchmarks.pairs import compare
from penstock.config import build
from penstock.workload import Item, Row, Schema, Workload, resolve

if TYPE_CHECKING:
    from penstock.data.dataset import Dataset
    from penstock.store import Store

PROCESSES = 2


def data(
    workload: Workload[Any],
    *,
    data: str = "synthetic",
    overrides: Sequence[str] = (),
    store: Store,
    pairs: int = 10,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """{"ratios": …}: items/s of training batches, augmentation included, from prepared shards over
    those of a two-process torch DataLoader that reads and decodes the raw files and augments the same
    (the very same Task.collate)."""
    from penstock.data.prepare import prepare
    from penstock.data.source import parse

    config = build(workload.config, workload.presets["default"], None, overrides)
    dataset = prepare(workload, data, config.data, store)
    form, path = parse(data, workload.sources)
    source = resolve(workload.sources[form])()
    scan = source.scan(path, config.data)
    names = {dataset.train.row(index)["item"] for index in range(len(dataset.train))}
    items = [item for item in scan.items if item.name in names]
    task = resolve(workload.trainers[workload.trainer(config)])(config, dataset.schema)
    batch = config.train.batch
    raw = RawItems(workload, source, items, config.data, dataset.schema)
    if not scan.files:
        raw.read_ahead()  # drawing a synthetic item is not what a loader does
    # one pass over a small set is over in milliseconds: repeat it until a figure rests on enough items
    epochs = max(1, -(-4_000 // len(items)))
    ratio = compare(
        "items/s of prepared shards, augmented, two processes",
        "a two-process torch DataLoader that decodes the raw files and augments the same",
        lambda: from_shards(dataset, task, batch, epochs * 4),
        lambda: from_files(raw, task, batch, epochs),
        pairs=pairs,
        unit="items/s",
        on_pair=lambda pair, a, b: say(f"pair {pair + 1}: {a:,.0f} and {b:,.0f} items/s"),
    )
    say(ratio.line())
    return {
        "workload": workload.name,
        "source": data,
        "items": len(items),
        "ratios": {"data": ratio.to_json()},
    }


class RawItems:
    """A torch map-style data set over the raw files: reads and decodes one item at a time."""

    def __init__(
        self, workload: Workload[Any], source: Any, items: Sequence[Item], config: Any, schema: Schema
    ) -> None:
        self.decode = resolve(workload.decode)
        self.source, self.items, self.config, self.schema = source, items, config, schema

        self.rows: list[Row] = []

    def read_ahead(self) -> None:
        """Keep the raw bytes in memory; they are still decoded one item at a time."""
        self.rows = list(self.source.read(self.items, self.config, self.schema))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[int, Row]:
        if self.rows:
            row = self.rows[index]
        else:
            row = next(iter(self.source.read([self.items[index]], self.config, self.schema)))
        return index, self.decode(row, self.config, self.schema)


class Drawn:
    """A Batch (workload.Batch) of rows at hand, for the DataLoader's collate function. A partner is read and
    decoded like any other item."""

    def __init__(self, raw: RawItems, rows: Sequence[tuple[int, Row]], epoch: int) -> None:
        from penstock.data.draws import ItemDraws

        self.raw, self.rows, self.draws = raw, rows, ItemDraws(0, epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Row, np.random.Generator]]:
        for index, row in self.rows:
            yield row, self.draws.at(index)

    def partner(self, generator: np.random.Generator) -> Row:
        return self.raw[int(generator.integers(len(self.raw)))][1]


def from_files(raw: RawItems, task: Any, batch: int, epochs: int) -> float:
    """Items a second of the baseline, first batch excluded: starting workers is not the data path."""
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    loader: DataLoader[Any] = DataLoader(
        raw,  # type: ignore[arg-type]  # a map-style data set by shape, not by inheritance
        batch_size=batch,
        shuffle=True,
        num_workers=PROCESSES,
        persistent_workers=True,
        collate_fn=lambda rows: (len(rows), task.collate(Drawn(raw, rows, 0))),
        multiprocessing_context="fork",
    )
    for _ in loader:  # one whole pass: page cache, imports, worker start
        pass
    done, start = 0, time.perf_counter()
    for _ in range(epochs):
        for count, _batch in loader:
            done += count
    return done / (time.perf_counter() - start)


def from_shards(dataset: Dataset, task: Any, batch: int, epochs: int) -> float:
    """Items a second over all processes, each taking its own slice of every global batch as training
    workers do; the slowest one counts."""
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(PROCESSES)
    seconds = context.Array("d", PROCESSES)
    workers = [
        context.Process(target=_read, args=(dataset, task, batch, epochs, rank, gate, seconds))
        for rank in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("a reader of the shards failed")
    slowest: float = max(seconds[:])
    return epochs * len(dataset.train) / slowest


def _read(dataset: Dataset, task: Any, batch: int, epochs: int, rank: int, gate: Any, seconds: Any) -> None:
    import torch

    from penstock.data.draws import ItemDraws, Items
    from penstock.data.order import global_batch, own_slice, steps_per_epoch

    torch.set_num_threads(1)
    rows = dataset.train
    for epoch in range(-1, epochs):
        if epoch == 0:  # epoch -1 warms up
            gate.wait()
            start = time.perf_counter()
        draws = ItemDraws(0, max(epoch, 0))
        for step in range(steps_per_epoch(len(rows), batch)):
            own = own_slice(global_batch(0, max(epoch, 0), step, len(rows), batch), rank, PROCESSES)
            task.collate(Items(rows, own, draws))
    seconds[rank] = time.perf_counter() - start
