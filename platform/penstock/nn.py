"""What makes results independent of the number of workers and threads. Use `Dropout` in place of torch's."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penstock.errors import ModelError


@dataclass
class Place:
    """Where the micro-batch at hand stands: items `first` to `first + rows` of a global batch of `total`."""

    seed: int
    step: int
    objective: str
    first: int
    rows: int
    total: int
    calls: Counter[str] = field(default_factory=Counter)  # a layer may be called several times a step


_place: Place | None = None
_generators: dict[torch.device, torch.Generator] = {}


def stand_at(place: Place | None) -> None:
    """Tell every `Dropout` of this process which items it is about to see; None when a step is over."""
    global _place
    _place = place


def name_layers(module: nn.Module) -> None:
    """Give each `Dropout` in `module` its dotted name, by which its masks are drawn."""
    for name, layer in module.named_modules():
        if isinstance(layer, Dropout):
            layer.layer = name


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums inside do not depend on how many threads torch has: a replica has one, a command has all."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Dropout(nn.Module):
    """Zeroes inputs with probability `p` while training, and scales the others by 1 / (1 - p).

    In a Penstock run the mask of the whole global batch is drawn from (seed, step, layer) and each worker
    keeps its own rows, so the number of workers and of micro-batches changes nothing. For that, dimension 0
    of the input runs over the items (several rows an item must stand together) and the others do not
    depend on the batch. Outside a run it is torch's dropout.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ModelError(f"dropout {p}: a probability in 0 <= p < 1 is needed")
        self.p = p
        self.layer = ""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if _place is None:
            return F.dropout(x, self.p)
        mask: Tensor = self._mask(x)
        return x * mask

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a generator cannot be traced
    def _mask(self, x: Tensor) -> Tensor:
        place = _place
        assert place is not None
        if x.shape[0] == 0:
            return torch.ones_like(x)
        each, rest = divmod(x.shape[0], max(place.rows, 1))
        if rest or not place.rows:
            raise ModelError(
                f"penstock.nn.Dropout {self.layer!r} got {x.shape[0]} rows for {place.rows} items; "
                "its first dimension must run over the items"
            )
        call = place.calls[self.layer]
        place.calls[self.layer] += 1
        key = repr((place.seed, place.step, place.objective, self.layer, call)).encode()
        generator = _generators.get(x.device)
        if generator is None:
            generator = _generators[x.device] = torch.Generator(x.device)
        generator.manual_seed(
            int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little", signed=True)
        )
        whole = torch.empty((place.total * each, *x.shape[1:]), dtype=x.dtype, device=x.device)
        whole.bernoulli_(1.0 - self.p, generator=generator)
        return whole[place.first * each : place.first * each + x.shape[0]].div_(1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
