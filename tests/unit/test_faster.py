"""Networks made faster: the same answers or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from penstock.benchmarks import tuning
from penstock.errors import ModelError
from penstock.registry import Serving
from penstock.serving.faster import possible, speed_up


class Said(BaseModel):
    mean: float


class Predictor:
    """Convolutions over a picture of noise; `shift` is what it adds to its answers."""

    def __init__(self, conv: bool = True, shift: float = 0.0) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Conv2d(3, 8, 3) if conv else nn.Linear(3, 8)
        self.shift = shift

    def predict(self, requests: Sequence[int]) -> list[Said]:
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(len(requests), 3, 16, 16, generator=generator)
        x = noise if isinstance(self.module, nn.Conv2d) else noise.movedim(1, -1)
        with torch.no_grad():
            out = self.module(x).double().flatten(1).mean(1) + self.shift
        return [Said(mean=float(one)) for one in out]


def test_a_way_that_is_not_known_is_named() -> None:
    with pytest.raises(ModelError, match=r"serving.faster = 'int8': channels_last, bf16, compile"):
        Serving.of({"serving": {"faster": ["int8"]}})


def test_layouts_are_for_convolutions() -> None:
    assert possible(Predictor()) == ["channels_last", "bf16", "compile"]
    assert possible(Predictor(conv=False)) == ["bf16", "compile"]
    assert possible(object.__new__(Predictor)) == []


def test_a_layout_changes_no_answer_and_bf16_does() -> None:
    plain, laid, rounded = Predictor(), Predictor(), Predictor()
    speed_up(laid, ["channels_last"])
    speed_up(rounded, ["bf16"])
    assert laid.module.weight.is_contiguous(memory_format=torch.channels_last)
    (one,), (two,), (three,) = (p.predict([0]) for p in (plain, laid, rounded))
    assert one.mean == pytest.approx(two.mean, abs=1e-6)
    assert one.mean != three.mean and one.mean == pytest.approx(three.mean, abs=1e-2)


@pytest.mark.parametrize(
    ("others", "times", "taken"),
    [
        ({}, {"bf16": 2.0}, ()),  # faster, with other answers
        ({}, {"channels_last": 2.0}, ("channels_last",)),
        ({}, {"channels_last": 1.05}, ()),  # not worth it
        ({"channels_last": 0.5}, {"channels_last": 2.0}, ()),
    ],
)
def test_what_is_not_faster_or_not_the_same_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, others: dict[str, float], times: dict[str, float], taken: tuple[str, ...]
) -> None:
    made: list[Any] = []

    def fresh(store: Any, version: Any) -> Predictor:
        made.append(Predictor())
        return made[-1]

    def speed(predictor: Any, ways: Sequence[str], device: str = "cpu") -> None:
        if "compile" in ways:
            raise RuntimeError("no compiler")
        speed_up(predictor, ways)
        predictor.shift = others.get(ways[-1], 0.0)
        predictor.seconds = 1.0 / times.get(ways[-1], 1.0)

    monkeypatch.setattr(tuning, "fresh", fresh)
    monkeypatch.setattr(tuning, "speed_up", speed)
    monkeypatch.setattr(tuning, "_once", lambda predictor, asked: getattr(predictor, "seconds", 1.0))
    said: list[str] = []
    found = tuning.quickened(None, None, Predictor(), [1, 2, 3], 2, said.append)  # type: ignore[arg-type]
    assert found == taken
    assert any("compile: does not work here: no compiler" in line for line in said)


def test_a_card_keeps_them() -> None:
    serving = Serving(batch=4, faster=("channels_last",))
    assert Serving.of({"serving": {**dataclasses.asdict(serving), "faster": ["channels_last"]}}) == serving
