"""One page for a run: a single HTML file that opens offline, on light and dark, on screen and paper."""

from penstock.report.figures import (
    Figure,
    calibration_figure,
    confusion_figure,
    curve_figure,
    draw,
    picture_figure,
    roc_figure,
)
from penstock.report.page import write_report

__all__ = [
    "Figure",
    "calibration_figure",
    "confusion_figure",
    "curve_figure",
    "draw",
    "picture_figure",
    "roc_figure",
    "write_report",
]
