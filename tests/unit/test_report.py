"""A run's page: one file that opens offline, shows what was measured, and trusts no text it is given."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from penstock import registry
from penstock.errors import RunError
from penstock.experiment import TrainResult, train
from penstock.media import ImageBytes
from penstock.report import (
    Figure,
    calibration_figure,
    confusion_figure,
    curve_figure,
    roc_figure,
    write_report,
)
from penstock.report.figures import MOST_POINTS, roc, thinned, wave_figure
from penstock.report.samples import show_request
from penstock.store import Store
from tests.toy import Evaluator

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrainResult]:
    """A finished run of the toy whose first class has a name that is HTML."""
    store = Store.open(tmp_path_factory.mktemp("report"))
    labels = f"data.labels=['{HOSTILE}', 'right & co']"
    return store, train(
        "toy", store=store, workers=1, overrides=("data.items=60", "train.epochs=3", "model.width=4", labels)
    )


@pytest.fixture
def page(trained: tuple[Store, TrainResult]) -> str:
    store, result = trained
    return write_report(result.run, store=store).read_text()


class Links(HTMLParser):
    """What a page would load, and the tags it leaves open."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [
            value or "" for name, value in attributes if name in ("src", "href", "srcset", "data", "action")
        ]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> Links:
    links = Links()
    links.feed(page)
    return links


def test_the_page_loads_nothing_from_anywhere(page: str) -> None:
    links = read(page)
    assert links.open == []
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(links.tags)
    assert all(value.startswith(("data:", "#")) for value in links.loads)
    beyond = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page)) - {"http://www.w3.org"}  # names of SVG
    assert beyond == set()
    assert "url(" not in re.sub(r"url\(#\w+\)", "", page) and "@import" not in page
    assert "default-src 'none'" in page


def test_names_from_data_are_text_and_never_markup(page: str) -> None:
    assert HOSTILE not in page
    assert "&lt;script&gt;alert" in page and "right &amp; co" in page


def test_the_page_shows_metrics_with_intervals_curves_data_settings_and_attempts(
    page: str, trained: tuple[Store, TrainResult]
) -> None:
    store, result = trained
    items = registry.find(store, f"toy@{result.version}").card["items"]
    accuracy = result.metrics["accuracy"]
    assert f"{accuracy['value']:.3f}" in page
    assert f"{accuracy['low']:.3f} to {accuracy['high']:.3f}" in page
    for said in (
        "Training loss",
        "Validation: accuracy",
        "Validation: other metrics",
        "published",
        "CC0-1.0",
        "data.items",
        "from step",
    ):
        assert said in page, said
    assert page.count("<svg") >= 3
    assert result.weights_sha256 in page and result.loss_curve_sha256 in page
    assert 'class="changed"><td class="mono">model.width' in page
    assert page.count('class="card sample') == min(12, items)


def test_the_page_is_the_same_every_time_and_names_no_folder(trained: tuple[Store, TrainResult]) -> None:
    store, result = trained
    first = write_report(result.run, store=store).read_bytes()
    assert write_report(result.run, store=str(store.root)).read_bytes() == first
    assert str(store.root).encode() not in first


def test_the_evaluators_own_figures_are_shown(
    trained: tuple[Store, TrainResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, result = trained
    seen: list[int] = []

    def figures(self: Evaluator, records: Any, rows: Any, answers: Any) -> list[Figure]:
        seen.extend((records.num_rows, len(rows), len(answers)))
        return [Figure("Mine", html="<p>as it stands</p>"), Figure("Dots", png=b"\x89PNG")]

    monkeypatch.setattr(Evaluator, "figures", figures, raising=False)
    page = write_report(result.run, store=store).read_text()
    assert "<h3>Mine</h3>" in page and "<p>as it stands</p>" in page
    assert "data:image/png;base64," in page
    version = registry.find(store, f"toy@{result.version}")
    assert seen[0] == version.card["items"] and 0 < seen[1] == seen[2] <= 12


def test_a_page_can_still_be_written_when_version_and_data_are_gone(tmp_path: Path) -> None:
    import shutil

    store = Store.open(tmp_path)
    result = train("toy", store=store, workers=1, overrides=("data.items=30", "train.epochs=1"))
    shutil.rmtree(store.models / "toy")
    shutil.rmtree(store.datasets / result.dataset)
    page = write_report(result.run, store=store).read_text()
    assert "No metrics: no model" in page and "No class balance: data set" in page
    assert "Training loss" in page
    (store.runs / result.run / "result.json").unlink()
    assert "The run is not finished" in write_report(result.run, store=store).read_text()


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
