"""The pictures of a report, and the samples it shows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from penstock.errors import RunError
from penstock.media import ImageBytes
from penstock.report import (
    calibration_figure,
    confusion_figure,
    curve_figure,
    roc_figure,
    write_report,
)
from penstock.report.figures import MOST_POINTS, roc, thinned, wave_figure
from penstock.report.samples import show_request
from penstock.store import Store


def test_an_unknown_run_is_one_line(store: Store) -> None:
    with pytest.raises(RunError, match=r"no run '\.\./x'"):
        write_report("../x", store=store)


# ---------------------------------------------------------------- figures


def test_figures_take_the_colour_of_the_page_and_are_the_same_every_time() -> None:
    figure = confusion_figure([0, 1, 1, 0], [0, 1, -1, 1], ["a", "<b>"])
    assert "currentColor" in figure.svg and "&lt;b&gt;" in figure.svg and "refused" in figure.svg
    assert confusion_figure([0, 1, 1, 0], [0, 1, -1, 1], ["a", "<b>"]).svg == figure.svg


def test_roc_of_a_case_worked_out_by_hand() -> None:
    """Scores 0.9+ 0.8- 0.8+ 0.1-: the pair of 0.8 ties, so it is one step and counts half."""
    x, y, area = roc(np.array([True, False, True, False]), np.array([0.9, 0.8, 0.8, 0.1]))
    assert x.tolist() == [0, 0, 0.5, 1] and y.tolist() == [0, 0.5, 1, 1]
    assert area == pytest.approx(0.875)


def test_roc_of_several_classes_shows_each_that_is_there() -> None:
    scores = np.eye(3)[[0, 1, 0, 1]] + 0.1
    figure = roc_figure([0, 1, 0, 1], scores, ["cat", "dog", "bird"])
    assert "cat (1.000)" in figure.svg and "bird" not in figure.svg
    assert "positive (" in roc_figure([0, 1], [[0.9, 0.1], [0.2, 0.8]], ["negative", "positive"]).svg
    assert "<svg" in roc_figure([0, 0], [[1, 0], [1, 0]], ["a", "b"]).svg  # one class only: no curve


def test_long_curves_are_thinned_to_means() -> None:
    x, y = thinned(np.arange(10_000.0), np.ones(10_000))
    assert len(x) <= MOST_POINTS and np.all(y == 1.0)
    assert "<svg" in curve_figure("Loss", {"a": (range(3), [3, 2, 1]), "b": (range(3), [1, 1, 1])}).svg


def test_the_other_figures_draw_at_their_limits() -> None:
    assert "<svg" in calibration_figure([1.0, 0.0, 0.5], [True, False, True]).svg
    assert "<svg" in wave_figure(np.zeros(1), 8000).svg


def test_a_sample_shows_a_picture_small_and_a_damaged_one_as_words() -> None:
    class Request(BaseModel):
        image: ImageBytes

    out = io.BytesIO()
    Image.new("RGB", (900, 300), "red").save(out, "PNG")
    shown = show_request(Request(image=out.getvalue()))
    assert shown["picture"].startswith("data:image/jpeg;base64,") and len(shown["picture"]) < 5000
    assert "damaged" in show_request(Request(image=b"no picture"))["text"]
