"""Dropout that does not depend on how a global batch is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from penstock.errors import ModelError
from penstock.nn import Dropout, Place, name_layers, stand_at


@pytest.fixture(autouse=True)
def no_place_is_left_behind() -> Iterator[None]:
    yield
    stand_at(None)


def mask(layer: Dropout, first: int, rows: int, step: int = 0, each: int = 1) -> torch.Tensor:
    stand_at(Place(seed=1, step=step, objective="o", first=first, rows=rows, total=10))
    return layer(torch.ones(rows * each, 5))  # type: ignore[no-any-return]


@pytest.mark.parametrize("each", [1, 3])
def test_shares_of_a_batch_get_the_masks_of_the_whole(each: int) -> None:
    layer = Dropout(0.5)
    whole = mask(layer, 0, 10, each=each)
    parts = [mask(layer, 0, 3, each=each), mask(layer, 3, 0, each=each), mask(layer, 3, 7, each=each)]
    assert torch.equal(torch.cat(parts), whole)
    assert set(whole.unique().tolist()) == {0.0, 2.0}


def test_steps_layers_and_calls_get_masks_of_their_own() -> None:
    net = torch.nn.Sequential(Dropout(0.5), Dropout(0.5))
    name_layers(net)
    one, two = net
    stand_at(Place(1, 0, "o", 0, 100, 100))
    x = torch.ones(100, 5)
    masks = [one(x), one(x), two(x)]
    stand_at(Place(1, 1, "o", 0, 100, 100))
    masks.append(one(x))
    stand_at(Place(1, 0, "other", 0, 100, 100))
    masks.append(one(x))
    for i, a in enumerate(masks):
        assert not any(torch.equal(a, b) for b in masks[:i])


def test_it_scales_what_it_keeps_and_rests_when_not_training() -> None:
    stand_at(Place(1, 0, "o", 0, 10_000, 10_000))
    layer = Dropout(0.2)
    out = layer(torch.ones(10_000, 4))
    assert float(out.mean()) == pytest.approx(1.0, abs=0.02)
    assert float((out == 0).float().mean()) == pytest.approx(0.2, abs=0.02)
    layer.eval()
    assert torch.equal(layer(torch.ones(3, 4)), torch.ones(3, 4))


def test_outside_a_run_it_is_torchs_dropout() -> None:
    torch.manual_seed(0)
    ours = Dropout(0.5)(torch.ones(8, 8))
    torch.manual_seed(0)
    assert torch.equal(ours, torch.nn.Dropout(0.5)(torch.ones(8, 8)))


def test_rows_that_are_not_items_are_refused() -> None:
    with pytest.raises(ModelError, match="got 7 rows for 3 items"):
        stand_at(Place(1, 0, "o", 0, 3, 3))
        Dropout(0.5)(torch.ones(7, 5))
    with pytest.raises(ModelError, match="probability"):
        Dropout(1.0)
