"""Row-wise Adagrad, for tables that are larger than what an optimiser may keep about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al. 2011) with one sum of squares for each row of a matrix, of the mean over its
    squared gradients (as in FBGEMM's "exact row-wise Adagrad"): a table of n x d keeps n numbers, where Adam
    keeps 2 n d. A row without a gradient is left alone, by the decay of the weights too."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, eps: float = 1e-8
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)

    def _move(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        table = parameter.ndim > 1
        squares = gradient.square().flatten(1).mean(1) if table else gradient.square()
        state = self.state[parameter]
        if not state:
            state["sum"] = torch.zeros_like(squares)
        state["sum"].add_(squares)
        rate = group["lr"] / (state["sum"].sqrt() + group["eps"])
        shape = (-1, *[1] * (parameter.ndim - 1)) if table else parameter.shape
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"] * (squares > 0).to(rate.dtype).view(shape))
        parameter.addcmul_(gradient, rate.view(shape), value=-1.0)
