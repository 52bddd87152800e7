"""A run's page: one file that opens offline, shows what was measured, and trusts no text it is given."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from penstock import registry
from penstock.experiment import TrainResult, train
from penstock.report import (
    Figure,
    write_report,
)
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


@pytest.fixture(scope="module")
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
