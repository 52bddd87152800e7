"""Exports: how graphs are compared, what is refused, and in which words. No graph is made here."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from penstock import export, registry
from penstock.errors import ModelError, PenstockError, RunFailed
from penstock.exporting import onnx_graph, parity
from penstock.graphs import Graph
from penstock.store import Store
from tests import versions
from tests.command import Finished
from tests.toy import workload


class Added(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


PAIR = Graph(Added(), {"left": ("batch", "long"), "right": ("batch", 1)}, {"sum": ("batch", "long")})
FINDS = Graph(nn.Identity(), {"picture": (1, 3)}, {"boxes": ("found", 4), "scores": ("found",)})


def call(batch: int, long: int, start: int = 0) -> list[Any]:
    left = np.arange(start, start + batch * long, dtype=np.float32).reshape(batch, long)
    return [left, np.full((batch, 1), start, np.float32)]


def test_an_axis_of_any_length_is_cut_or_gone_round_again_in_every_input() -> None:
    left, right = onnx_graph.resized(PAIR, call(2, 3), "batch", 5)
    assert left.shape == (5, 3) and right.shape == (5, 1)
    assert left[:, 0].tolist() == [0, 3, 0, 3, 0]
    left, right = onnx_graph.resized(PAIR, call(2, 3), "long", 1)
    assert left.tolist() == [[0], [3]] and right.shape == (2, 1)
    assert onnx_graph.axes(PAIR) == ["batch", "long"]


def test_a_graph_is_derived_from_no_axis_of_one() -> None:
    left, right = parity.example(PAIR, [call(1, 1), call(1, 4)])
    assert left.shape == (2, 4) and right.shape == (2, 1)


def test_it_is_compared_at_other_sizes_than_those_it_was_derived_at() -> None:
    made = parity.variants(PAIR, [call(1, 4), call(1, 4, 9), call(2, 7)])
    shapes = [one[0].shape for one in made]
    assert shapes[:3] == [(1, 4), (1, 4), (2, 7)]  # as they were
    assert {(1, 4), (3, 4), (1, 7), (3, 7)} <= set(shapes) and (2, 3) in shapes and (2, 6) in shapes
    three = next(one for one in made if one[0].shape == (3, 4))
    assert three[1][:, 0].tolist() == [0, 9, 0]  # both calls stand side by side


def test_differences_are_absolute_and_relative() -> None:
    same = np.array([1.0, np.nan, np.inf, -np.inf])
    assert parity.difference(same, same.copy()) == (0, 0)
    assert parity.difference(np.array([1000.0]), np.array([1000.5])) == (0.5, pytest.approx(0.5 / 1000.5))
    assert parity.difference(np.array([0.1]), np.array([0.2]))[1] == pytest.approx(0.1)
    for other in (np.nan, np.inf):
        assert parity.difference(np.array([1.0]), np.array([other])).distance == np.inf
    assert parity.difference(np.array([3]), np.array([4])).absolute == 1  # labels, too


def test_what_is_found_is_compared_as_a_set() -> None:
    assert parity.found_by(FINDS) and not parity.found_by(PAIR)
    boxes, scores = np.arange(12.0).reshape(3, 4), np.array([0.5, 0.5, 0.4])
    swapped = parity.rearranged([boxes, scores], [boxes[[1, 0, 2]] + 1e-6, scores[[1, 0, 2]]])
    assert np.abs(swapped[0] - boxes).max() < 1e-5 and swapped[1].tolist() == scores.tolist()


class Said(BaseModel):
    label: str
    score: float


def test_answers_have_to_be_the_same() -> None:
    mine = [Said(label="a", score=0.5)]
    found = parity.compare_answers(mine, [Said(label="a", score=0.50009)])
    assert found["answers"] == 1 and found["largest_in_answers"] == pytest.approx(9e-5)
    with pytest.raises(RunFailed, match=r"answer 1 of 1 differs at /score: 0.5 by the model, 0.5002 by its"):
        parity.compare_answers(mine, [Said(label="a", score=0.5002)])
    with pytest.raises(RunFailed, match="at /label: 'a' by the model, 'b' by its export"):
        parity.compare_answers(mine, [Said(label="b", score=0.5)])


def test_a_graph_that_no_answer_comes_through_is_named() -> None:
    with pytest.raises(PenstockError, match="no answer calls its graph 'other'"):
        parity.calls_of({"other": PAIR}, lambda: None)
    inputs = [torch.zeros(1, 2), torch.ones(1, 1)]
    (found,) = parity.calls_of({"sum": PAIR}, lambda: PAIR.module(*inputs))["sum"]
    assert [array.tolist() for array in found] == [[[0, 0]], [[1]]]


# ---------------------------------------------------------------- what is refused


def test_what_cannot_be_is_said_in_one_line(
    cli: Callable[..., Finished], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions.publish(store)
    assert cli("export", "toy", "--to", "tensorrt").error.endswith(
        "--to tensorrt: no such format; onnx is possible"
    )
    assert "no model 'toi'; did you mean toy?" in cli("export", "toi", "--to", "onnx").error
    (tmp_path / "there").mkdir()
    said = cli("export", "toy@1", "--to", "onnx", "--output", tmp_path / "there").error
    assert said.endswith("there: exists already; name a new folder")
    with monkeypatch.context() as patch:
        patch.setattr("penstock.registry.workload_of", lambda version: without(workload))
        assert cli("export", "toy", "--to", "onnx").error == (
            "penstock: toy@1 cannot be exported to onnx: "
            "workload toy does not say how its networks become graphs"
        )
    with monkeypatch.context() as patch:
        find = importlib.util.find_spec
        patch.setattr(
            "importlib.util.find_spec", lambda name: None if name.startswith("onnx") else find(name)
        )
        said = cli("export", "toy", "--to", "onnx").error
        assert said.endswith("needs onnx, onnxruntime, onnxscript: pip install 'penstock[export]'")
    assert not store.exports.exists()


def without(workload: Any) -> Any:
    import dataclasses

    return dataclasses.replace(workload, exporter=None)


# ---------------------------------------------------------------- beside the card


def test_what_was_measured_is_kept_beside_the_versions(store: Store) -> None:
    one, two = versions.publish(store), versions.publish(store)
    folder = one.path.parent
    registry.exported(folder, 2, "onnx", {"parity": {"largest_difference": 1e-7}})
    registry.exported(folder, 2, "other", {"parity": {}})
    assert registry.find(store, "toy@1").card["exports"] is None
    known = registry.find(store, "toy@2").card["exports"]
    assert known["onnx"]["parity"]["largest_difference"] == 1e-7 and set(known) == {"onnx", "other"}
    registry.verify(two)  # the version itself is what it was
    stored = json.loads((folder / "exports.json").read_bytes())
    assert stored["format"] == 1 and list(stored["versions"]) == ["2"]
    (folder / "exports.json").write_bytes(b"{")
    with pytest.raises(
        ModelError, match=r"exports.json of model toy is damaged; delete it: penstock export toy"
    ):
        registry.find(store, "toy@2")


def test_the_verb_is_one_of_python() -> None:
    assert callable(export)
