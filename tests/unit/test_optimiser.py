"""The learning rate by step, clipping, averaged weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from penstock.config import Optim
from penstock.training.optimiser import Average, build, clip, rate


def test_the_rate_rises_linearly_then_follows_the_schedule() -> None:
    optim = Optim(lr=0.1, warmup_steps=4, schedule="cosine", final_lr=0.1)
    assert [rate(optim, step, 104) for step in range(4)] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rate(optim, 4, 104) == pytest.approx(0.1)
    assert rate(optim, 54, 104) == pytest.approx((0.1 + 0.01) / 2)
    assert rate(optim, 104, 104) == pytest.approx(0.01)


def test_linear_and_constant_schedules() -> None:
    assert rate(Optim(lr=1.0, schedule="linear"), 25, 100) == pytest.approx(0.75)
    assert rate(Optim(lr=1.0, schedule="constant"), 99, 100) == 1.0


def test_a_run_shorter_than_its_warm_up_has_a_rate() -> None:
    assert rate(Optim(lr=1.0, warmup_steps=10), 3, 4) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("optim", "theirs"),
    [
        (
            Optim(kind="sgd", lr=0.1, momentum=0.8, weight_decay=0.01),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=0.01),
        ),
        (
            Optim(kind="adam", lr=0.1, weight_decay=0.01),
            lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.01),
        ),
        (
            Optim(kind="adamw", lr=0.1, betas=(0.8, 0.9), weight_decay=0.3),
            lambda p: torch.optim.AdamW(p, 0.1, betas=(0.8, 0.9), weight_decay=0.3),
        ),
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_the_optimisers_are_torchs(optim: Optim, theirs: Any) -> None:
    ours = nn.Parameter(torch.linspace(-1, 1, 7, dtype=torch.float64))
    reference = nn.Parameter(ours.detach().clone())
    one, two = build(optim, [ours]), theirs([reference])
    for step in range(5):
        ours.grad = torch.cos(ours.detach() + step)
        reference.grad = torch.cos(reference.detach() + step)
        one.step()
        two.step()
    torch.testing.assert_close(ours, reference, atol=1e-12, rtol=0)


def test_rowwise_adagrad_keeps_a_number_a_row_and_leaves_others_alone() -> None:
    table = nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3))
    bias = nn.Parameter(torch.ones(2, dtype=torch.float64))
    before, moving = (
        table.detach().clone(),
        build(Optim("rowwise_adagrad", lr=0.1, weight_decay=0.5), [table, bias]),
    )
    by_hand, sums = before[1].clone(), 0.0
    for step in range(3):
        row = torch.tensor([1.0, -2.0, 0.5 * step], dtype=torch.float64)
        table.grad = torch.zeros_like(table)
        table.grad[1] = row
        bias.grad = torch.full_like(bias, 3.0)
        moving.step()
        sums += float(row.square().mean())
        by_hand = by_hand * (1 - 0.1 * 0.5) - 0.1 * row / (sums**0.5 + 1e-8)
    torch.testing.assert_close(table[1], by_hand)
    assert torch.equal(table[[0, 2, 3]], before[[0, 2, 3]])
    assert moving.state[table]["sum"].shape == (4,) and moving.state[bias]["sum"].shape == (2,)


def test_rowwise_adagrad_of_single_numbers_is_torchs_adagrad() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 7, dtype=torch.float64)) for _ in range(2))
    one, two = (
        build(Optim("rowwise_adagrad", lr=0.1, weight_decay=0.0), [ours]),
        torch.optim.Adagrad([theirs], 0.1, eps=1e-8),
    )
    for step in range(5):
        ours.grad, theirs.grad = (torch.cos(p.detach() + step) for p in (ours, theirs))
        one.step()
        two.step()
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_clipping_bounds_the_norm_over_all_gradients() -> None:
    gradients = [torch.tensor([3.0]), torch.tensor([4.0])]
    clip(gradients, 0.0)
    assert [float(g) for g in gradients] == [3.0, 4.0]
    clip(gradients, 10.0)
    assert [float(g) for g in gradients] == [3.0, 4.0]
    clip(gradients, 1.0)
    assert [float(g) for g in gradients] == pytest.approx([0.6, 0.8], abs=1e-5)


def test_the_average_follows_fast_at_first_and_slowly_later() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    average = Average({"w": parameter}, 0.99)
    with torch.no_grad():
        parameter.fill_(1.0)
    average.update(0)  # decay 0.1
    assert float(average.named()["w"]) == pytest.approx(0.9)
    with torch.no_grad():
        parameter.fill_(0.0)
    average.update(100_000)
    assert float(average.named()["w"]) == pytest.approx(0.9 * 0.99)
