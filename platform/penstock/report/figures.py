"""Pictures of a report, as SVG that takes the page's own text colour, so that it reads on light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#3d7fc4", "#dd7a36", "#3d9f68", "#c04f7c", "#8a6fc8", "#a08a2f", "#2a9d9d", "#b0564a")
INK = "#0a0b0c"  # stands for the page's text colour until the SVG is written
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
MOST_POINTS = 1500  # of one curve; more make the page heavy and look the same
MOST_CLASSES = 8  # curves one can tell apart


@dataclass(frozen=True)
class Figure:
    """One picture: `svg` (inline markup), `png` (bytes), or `html` (markup that is safe as it stands)."""

    title: str
    svg: str = ""
    png: bytes = b""
    html: str = ""
    caption: str = ""


def picture_figure(title: str, png: bytes, caption: str = "") -> Figure:
    """A Figure of a picture at hand (PNG)."""
    return Figure(title, png=png, caption=caption)


def draw(title: str, paint: Callable[[Axes], None], *, width: float = 5.6, height: float = 3.4) -> Figure:
    """A Figure of one pair of axes; `paint` fills them. Sizes in inches; the page scales it."""
    import matplotlib
    from cycler import cycler
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": title,
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.15,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=COLOURS),
        "legend.frameon": False,
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"),
            INK,
        ),
    }
    with matplotlib.rc_context(style):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        canvas.patch.set_alpha(0)
        axes = FigureCanvasSVG(canvas).figure.subplots()
        axes.patch.set_alpha(0)
        paint(axes)
        out = io.StringIO()
        canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return Figure(title, svg=svg.replace(INK, "currentColor"))


def curve_figure(
    title: str,
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    x: str = "",
    y: str = "",
    mark: tuple[float, str] | None = None,
    points: bool = False,
) -> Figure:
    """Lines by name, each (x [n], y [n]); `mark` draws a vertical line with a word; `points` shows each."""

    def paint(axes: Axes) -> None:
        for name, (xs, ys) in series.items():
            thin_x, thin_y = thinned(np.asarray(xs, float), np.asarray(ys, float))
            axes.plot(
                thin_x, thin_y, label=name, linewidth=1.4, marker="o" if points else None, markersize=3.5
            )
        if mark is not None:
            axes.axvline(mark[0], color=INK, linewidth=0.8, linestyle=":")
            axes.annotate(mark[1], (mark[0], 1), xycoords=("data", "axes fraction"), fontsize=8, ha="center")
        axes.set(xlabel=x, ylabel=y)
        if len(series) > 1:
            axes.legend(fontsize=8)

    return draw(title, paint)


def thinned(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """At most MOST_POINTS points: the mean of each stretch."""
    size = -(-len(x) // MOST_POINTS)
    if size <= 1:
        return x, y
    starts = np.arange(0, len(x), size)
    counts = np.diff([*starts, len(x)])
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts


def confusion_figure(truth: ArrayLike, said: ArrayLike, labels: Sequence[str]) -> Figure:
    """What was there (rows) and what was said (columns), as counts; shade is the share of the row. `truth`
    and `said` are class numbers [n]; -1 said is a refusal and gets a column of its own."""
    true, told = np.asarray(truth, int), np.asarray(said, int)
    refused = bool((told < 0).any())
    columns = [*labels, "refused"] if refused else list(labels)
    table = np.zeros((len(labels), len(columns)), int)
    np.add.at(table, (true, np.where(told < 0, len(labels), told)), 1)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)

    def paint(axes: Axes) -> None:
        small = len(labels) <= 16
        for (row, column), count in np.ndenumerate(table):
            right = row == column
            colour = COLOURS[0] if right else COLOURS[1]
            box = {"facecolor": colour, "alpha": float(0.06 + 0.94 * share[row, column]), "linewidth": 0}
            axes.add_patch(rectangle(column, row, **box))
            if small and count:
                ink = "#ffffff" if share[row, column] > 0.55 else INK
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=ink, fontsize=8)
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(labels) - 0.5, -0.5), xlabel="said", ylabel="is")
        axes.set_xticks(
            range(len(columns)), columns, rotation=0 if len("".join(columns)) < 60 else 45, fontsize=8
        )
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.grid(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    side = min(2.2 + 0.42 * len(columns), 8.0)
    return draw("Confusion matrix", paint, width=max(side + 0.8, 5.6), height=max(side, 3.4))


def rectangle(column: int, row: int, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, **style)


def roc_figure(truth: ArrayLike, scores: ArrayLike, labels: Sequence[str]) -> Figure:
    """ROC curves from class numbers [n] and scores [n, classes]: one for two classes (the second is the
    positive one), else one against the rest, the hardest MOST_CLASSES classes."""
    true, given = np.asarray(truth, int), np.asarray(scores, float)
    wanted = [1] if len(labels) == 2 else range(len(labels))
    curves = []
    for label in wanted:
        positive = true == label
        if positive.any() and not positive.all():
            curves.append((*roc(positive, given[:, label]), labels[label]))
    curves.sort(key=lambda curve: curve[2])
    note = "" if len(curves) <= MOST_CLASSES else f"The {MOST_CLASSES} hardest of {len(curves)} classes."

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
        for x, y, area, name in curves[:MOST_CLASSES]:
            thin_x, thin_y = thinned(x, y)
            axes.plot(thin_x, thin_y, linewidth=1.5, label=f"{name} ({area:.3f})")
        axes.set(
            xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01)
        )
        axes.set_aspect("equal")
        if curves:
            axes.legend(fontsize=8, loc="lower right", title="area under", title_fontsize=8)

    figure = draw("ROC" if len(labels) == 2 else "ROC, one against the rest", paint, height=4.0)
    return Figure(figure.title, svg=figure.svg, caption=note)


def roc(positive: NDArray[np.bool_], score: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], float]:
    """(false positive rates, true positive rates, area under them); equal scores are one step."""
    order = np.argsort(-score, kind="stable")
    hits, ranked = positive[order], score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    true_rate = np.append(0.0, np.cumsum(hits)[last] / hits.sum())
    false_rate = np.append(0.0, np.cumsum(~hits)[last] / (~hits).sum())
    return false_rate, true_rate, float(np.trapezoid(true_rate, false_rate))


def calibration_figure(confidence: ArrayLike, right: ArrayLike, bins: int = 10) -> Figure:
    """How often answers of some confidence [n] (0..1) were right [n]; a calibrated model is on the line."""
    sure, hit = np.asarray(confidence, float), np.asarray(right, float)
    place = np.clip((sure * bins).astype(int), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    mean_sure = np.bincount(place, sure, bins)[filled] / count[filled]
    mean_hit = np.bincount(place, hit, bins)[filled] / count[filled]

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
        axes.plot(mean_sure, mean_hit, linewidth=1.2)
        axes.scatter(
            mean_sure, mean_hit, s=12 + 120 * count[filled] / count.sum(), color=COLOURS[0], zorder=3
        )
        axes.set(xlabel="confidence", ylabel="share right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
        axes.set_aspect("equal")

    return draw("Calibration", paint, height=4.0)


def wave_figure(wave: ArrayLike, rate: int) -> Figure:
    """A sound: the extremes of each stretch of mono samples [n] at `rate` Hz over seconds."""
    samples = np.asarray(wave, float)
    size = max(1, len(samples) // 300)
    cut = samples[: max(1, len(samples) // size) * size].reshape(-1, min(size, len(samples)))

    def paint(axes: Axes) -> None:
        seconds = np.arange(len(cut)) * size / rate
        axes.fill_between(seconds, cut.min(1), cut.max(1), linewidth=0.4, color=COLOURS[0])
        axes.set(ylim=(-1, 1), yticks=[], xlim=(0, max(seconds[-1], 1e-3)))
        axes.tick_params(labelsize=12)
        axes.spines["left"].set_visible(False)
        axes.grid(False)

    return draw("Sound", paint, width=3.4, height=1.3)
