"""A search as one page that opens offline: who won, how they learned, which settings mattered."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penstock import catalog
from penstock.errors import RunError
from penstock.evaluation import text
from penstock.journal import Journal
from penstock.report.figures import COLOURS, MOST_CLASSES, Figure, curve_figure, draw
from penstock.store import Store, current, write_atomic
from penstock.tuning.asked import Asked, read
from penstock.tuning.ledger import Ledger, Trial, best_value, worth
from penstock.tuning.result import TuneResult
from penstock.workload import Goal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 4
"""Trials from which on something may be said about a setting."""


def write(store: Store, name: str) -> Path:
    """Writes the page of the search `name` and gives its path; RunError when there is none, or no result."""
    asked, folder = read(store, name), store.searches / name
    try:
        result = TuneResult(**json.loads(current(folder / "result.json")))
    except FileNotFoundError:
        raise RunError(
            f"search {name!r} has no result yet; the same `penstock tune` goes on with it"
        ) from None
    path = folder / "report.html"
    ledger = Ledger(Journal(folder / "ledger.jsonl"))
    write_atomic(path, render(result, ledger, asked, catalog.find(asked.spec.workload).goal).encode())
    return path


def render(result: TuneResult, ledger: Ledger, asked: Asked, goal: Goal) -> str:
    """The page; what did not come from this package is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    ranked = sorted(
        (trial for trial in ledger.trials.values() if trial.values and not trial.failed),
        key=lambda one: (-worth(best_value(one.values, goal), goal), one.number),
    )
    page = files("penstock.tuning").joinpath("page.html").read_text("utf-8")
    style = files("penstock.report").joinpath("style.css").read_text("utf-8")
    rows = {row["trial"]: row for row in result.trials}
    order = [rows[trial.number] for trial in ranked]
    order += [row for number, row in rows.items() if number not in {trial.number for trial in ranked}]
    return environment.from_string(page).render(
        result=result,
        asked=asked,
        style=style,
        rows=order,
        metrics={name: text(dict(metric)) for name, metric in result.metrics.items()},
        figures=figures(ranked, ledger, goal),
        shown=shown,
    )


def shown(value: Any) -> str:
    """A setting or a metric, short."""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "-"
    return "-" if value is None else str(value)


def figures(ranked: Sequence[Trial], ledger: Ledger, goal: Goal) -> list[Figure]:
    """`ranked`: the trials with a result, best first."""
    found = [curves(ranked, goal), progress(ledger, goal)]
    shares = importance(ranked, goal)
    return [*found, bars(shares)] if shares else found


def curves(ranked: Sequence[Trial], goal: Goal) -> Figure:
    """The goal by validation, of the best trials."""
    few = ranked[:MOST_CLASSES]
    series = {f"trial {one.number}": (range(1, one.reached + 1), one.values) for one in few}
    title = f"Learning curves: {goal.metric}"
    figure = curve_figure(title, series, x="validation", y=goal.metric, points=True)
    note = f"The best {len(few)} of {len(ranked)} trials." if len(few) < len(ranked) else ""
    return Figure(title, svg=figure.svg, caption=note)


def progress(ledger: Ledger, goal: Goal) -> Figure:
    """Each trial's best, and the best so far, in the order they were suggested."""
    known = [trial for _, trial in sorted(ledger.trials.items()) if trial.values and not trial.failed]
    numbers = [trial.number for trial in known]
    values = [best_value(trial.values, goal) for trial in known]
    best = [best_value(values[: end + 1], goal) for end in range(len(values))]

    def paint(axes: Axes) -> None:
        axes.scatter(numbers, values, s=16, color=COLOURS[0], label="trial")
        axes.step(numbers, best, where="post", color=COLOURS[1], linewidth=1.3, label="best so far")
        axes.set(xlabel="trial", ylabel=goal.metric)
        axes.legend(fontsize=8)

    return draw("What the search found", paint)


def bars(shares: Mapping[str, float]) -> Figure:
    names = sorted(shares, key=lambda name: shares[name])

    def paint(axes: Axes) -> None:
        axes.barh(names, [shares[name] for name in names], color=COLOURS[0], height=0.6)
        axes.set(xlim=(0, 1), xlabel="share of the ranking's variance")
        axes.grid(False)

    figure = draw("Importance of settings", paint, height=max(1.4 + 0.35 * len(names), 2.2))
    note = (
        "How much of the order of the trials each setting explains alone; with few trials, chance has a part."
    )
    return Figure(figure.title, svg=figure.svg, caption=note)


def importance(ranked: Sequence[Trial], goal: Goal) -> dict[str, float]:
    """Setting -> share (0 to 1) of the variance of the trials' ranks that it explains alone: Spearman's rho
    squared for numbers, the correlation ratio for words. All are compared after as many validations as the
    shortest has. Empty when there are too few trials."""
    if len(ranked) < FEWEST:
        return {}
    least = min(trial.reached for trial in ranked)
    ranks = ranked_of([worth(best_value(trial.values[:least], goal), goal) for trial in ranked])
    found = {}
    for name in ranked[0].settings:
        values = [trial.settings[name] for trial in ranked]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        found[name] = (
            rho_squared(ranked_of(values), ranks) if numbers else ratio(list(map(str, values)), ranks)
        )
    return found


def ranked_of(values: Sequence[float]) -> NDArray[Any]:
    """Ranks [n]; equal values share the mean of theirs."""
    _, place, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place])


def rho_squared(left: NDArray[Any], right: NDArray[Any]) -> float:
    if not left.std() or not right.std():
        return 0.0
    return float(np.corrcoef(left, right)[0, 1] ** 2)


def ratio(groups: Sequence[str], ranks: NDArray[Any]) -> float:
    """Between-group variance over the whole variance."""
    if not ranks.var():
        return 0.0
    labels = np.asarray(groups)
    between = sum(
        (labels == label).mean() * (ranks[labels == label].mean() - ranks.mean()) ** 2
        for label in set(groups)
    )
    return float(between / ranks.var())
