"""Facts, figures and samples of a run, put into the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock import catalog, registry
from penstock.data.dataset import Dataset
from penstock.errors import DataError, ModelError, PenstockError
from penstock.evaluation import text
from penstock.registry import Version
from penstock.report.facts import RunFacts, read_run, settings
from penstock.report.figures import Figure, curve_figure
from penstock.report.samples import Sample, data_uri, samples
from penstock.report.snapshots import snapshot_figures
from penstock.store import Store, gathered, write_atomic

MOST_CLASSES_SHOWN = 40
SMOOTHED_FROM = 100  # steps; shorter loss curves are read as they are


@dataclass(frozen=True)
class Tile:
    """A headline metric: its name, value as text, and the interval's place on 0..100 where it has one."""

    name: str
    value: str
    interval: str
    low: float | None
    width: float | None
    at: float | None
    goal: bool
    exact: bool  # an interval without width


@dataclass
class Page:
    """All that the template shows."""

    run: RunFacts
    version: Version | None = None
    dataset: Dataset | None = None
    tiles: list[Tile] = field(default_factory=list)
    curves: list[Figure] = field(default_factory=list)
    snapshots: list[Figure] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_report(run: str, *, store: Store | str | Path | None = None) -> Path:
    """Writes `runs/<run>/report.html` and gives its path. What can no longer be shown (a version or data
    set that was deleted) is said on the page. RunError when there is no such run."""
    store = store if isinstance(store, Store) else Store.open(store)
    page = Page(read_run(store, run))
    page.curves = curves(page.run)
    page.snapshots = snapshot_figures(gathered(page.run.path / "snapshots"))
    page.dataset = load_dataset(store, page)
    page.version = find_version(store, page)
    if page.version is not None:
        page.tiles = tiles(page.version)
        if page.dataset is not None:
            try:
                add_answers(store, page, page.version, page.dataset)
            except PenstockError as error:
                page.notes.append(f"No figures and samples: {error}.")
    path = page.run.path / "report.html"
    write_atomic(path, render(page).encode())
    return path


def load_dataset(store: Store, page: Page) -> Dataset | None:
    try:
        return Dataset.load(store.datasets / str(page.run.spec["dataset"]))
    except DataError as error:
        page.notes.append(f"No class balance: {error}.")
        return None


def find_version(store: Store, page: Page) -> Version | None:
    if page.run.result is None:
        page.notes.append("The run is not finished: the same command goes on with it.")
        return None
    try:
        return registry.find(store, f"{page.run.result['model']}@{page.run.result['version']}")
    except ModelError as error:
        page.notes.append(f"No metrics: {error}.")
        return None


def add_answers(store: Store, page: Page, version: Version, dataset: Dataset) -> None:
    """The evaluator's own figures, and items with their answers."""
    page.samples, rows, answers = samples(store, version, dataset.test)
    evaluator: Any = registry.evaluator_of(version)
    if hasattr(evaluator, "figures"):
        page.figures = list(evaluator.figures(registry.records(version), rows, answers))


# ---------------------------------------------------------------- parts


def tiles(version: Version) -> list[Tile]:
    """One tile a metric, the goal first."""
    goal = version.card["goal"]["metric"]
    metrics: Mapping[str, Mapping[str, float | None]] = version.card["metrics"]
    names = sorted(metrics, key=lambda name: (name != goal, list(metrics).index(name)))
    return [tile(name, metrics[name], name == goal) for name in names]


def tile(name: str, metric: Mapping[str, float | None], goal: bool) -> Tile:
    value, low, high = (metric.get(key) for key in ("value", "low", "high"))
    number, _, interval = text(metric).partition(" (")
    bar = value is not None and low is not None and high is not None and 0 <= low <= high <= 1
    return Tile(
        name.replace("_", " "),
        number,
        interval.rstrip(")"),
        low=100 * low if bar and low is not None else None,
        width=100 * (high - low) if bar and high is not None and low is not None else None,
        at=100 * value if bar and value is not None else None,
        goal=goal,
        exact=low is not None and low == high,
    )


def curves(run: RunFacts) -> list[Figure]:
    """The loss by step and each validated metric."""
    best = run.result.get("best_step") if run.result else None
    found = []
    if run.losses:
        series = {name: (steps, smoothed(values)) for name, (steps, values) in run.losses.items()}
        long = any(len(values) >= SMOOTHED_FROM for _, values in run.losses.values())
        title = "Training loss, moving average" if long else "Training loss"
        found.append(curve_figure(title, series, x="step", y="loss"))
    mark = (float(best), "published") if best is not None else None
    checks = {name: line for name, line in run.validations.items() if np.isfinite(line[1]).any()}
    goal = goal_of(run)
    shares = {name: line for name, line in checks.items() if name != goal and is_share(line[1])}
    for name, line in sorted(checks.items(), key=lambda check: check[0] != goal):
        if name not in shares:
            title = f"Validation: {name.replace('_', ' ')}"
            found.append(curve_figure(title, {name: line}, x="step", mark=mark, points=True))
    if shares:  # on one scale, so they share a picture
        found.append(curve_figure("Validation: other metrics", shares, x="step", mark=mark, points=True))
    return found


def goal_of(run: RunFacts) -> str:
    """The metric the run is judged by; "" when its workload is no longer installed."""
    try:
        return catalog.find(run.spec["workload"]).goal.metric
    except PenstockError:
        return ""


def is_share(values: NDArray[Any]) -> bool:
    known = values[np.isfinite(values)]
    return bool((known >= 0).all() and (known <= 1).all())


def smoothed(values: NDArray[Any]) -> NDArray[Any]:
    """The mean over the last fiftieth of the curve up to each step; short curves as they are."""
    size = len(values) // 50
    if len(values) < SMOOTHED_FROM:
        return values
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - size)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def balance(dataset: Dataset) -> list[tuple[str, list[tuple[int, float]]]]:
    """Label -> (items, share of the largest class in per cent) in train, validation, test."""
    classes: Mapping[str, Mapping[str, int]] = dataset.card.get("classes", {})
    splits = [classes.get(split, {}) for split in ("train", "validation", "test")]
    largest = [max(counts.values(), default=0) or 1 for counts in splits]
    return [
        (
            label,
            [
                (counts.get(label, 0), 100 * counts.get(label, 0) / most)
                for counts, most in zip(splits, largest, strict=True)
            ],
        )
        for label in list(dataset.schema.labels)[:MOST_CLASSES_SHOWN]
    ]


def how(run: RunFacts) -> list[tuple[str, str]]:
    """What was measured and asked for, as name and text."""
    spec, result = run.spec, run.result or {}
    rows = [
        ("workers", f"{spec['workers']} with {spec['threads']} thread(s) each, {spec['device']}"),
        ("gradient reduction", spec["strategy"]),
        ("seed", spec["seed"]),
        ("started from", spec["start_from"] or "new weights"),
        ("steps", result.get("steps")),
        ("published step", result.get("best_step")),
        ("items/s", f"{result['items_per_s']:.1f}" if result.get("items_per_s") else None),
        ("seconds", f"{result['seconds']:.1f}" if result.get("seconds") else None),
        *(("slow worker", slow_worker(slow)) for slow in result.get("stragglers", ())),
        ("loss curve sha256", result.get("loss_curve_sha256")),
        ("weights sha256", result.get("weights_sha256")),
    ]
    return [(name, str(value)) for name, value in rows if value is not None]


def slow_worker(slow: Mapping[str, Any]) -> str:
    return f"{slow['rank']} on node {slow['node']}: {slow['factor']:.1f} times the others' median step"


def commands(page: Page) -> Sequence[str]:
    if page.version is None:
        return []
    name = page.version.reference
    return [
        f"penstock evaluate {name}",
        f"penstock serve {name}",
        f"penstock promote {page.version.name} {page.version.version} live",
    ]


def render(page: Page) -> str:
    """The page as text; everything that did not come from this package is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files("penstock.report").joinpath("page.html").read_text("utf-8"))
    return template.render(
        page=page,
        run=page.run,
        version=page.version,
        dataset=page.dataset,
        balance=balance(page.dataset) if page.dataset is not None else [],
        settings=settings(page.run.spec),
        how=how(page.run),
        commands=commands(page),
        style=files("penstock.report").joinpath("style.css").read_text("utf-8"),
        png=lambda raw: data_uri("image/png", raw),
    )
