"""What a trained model is in another runtime: graphs, and what is done before and after them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn

Shape = Sequence[int | str]


@dataclass(frozen=True)
class Graph:
    """A network that can be computed elsewhere.

    `module`: called with the tensors of `inputs`, in their order, it gives the one of `outputs`, or a tuple
    of them. Both: name -> shape, whose words are axes of any length: {"patches": ("batch", 3, 64, 64)};
    "batch" is where items stand side by side. `recorded`: its operations are written down as they run once,
    by torch's older exporter, in place of being derived from its code: for what finds as many boxes as there
    are.
    """

    module: nn.Module
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    recorded: bool = False


@dataclass(frozen=True)
class Export:
    """Graphs by the name of their file, and what is done before and after them: JSON, with "steps" in words
    and every number that they name. `assets`: those of the schema that go along. `ask` makes a request one
    that tells two networks apart by no more than rounding: a search, or chance, would make much of the last
    digit."""

    graphs: Mapping[str, Graph]
    preprocessing: Mapping[str, Any]
    postprocessing: Mapping[str, Any]
    assets: Sequence[str] = ()
    ask: Callable[[Any], Any] = lambda request: request


class Exporter(Protocol):
    """What `Workload.exporter` names."""

    def __call__(self, predictor: Any) -> Export:
        """The graphs of a predictor, which from now on answers through their modules, called the usual way;
        it is used for nothing else. PenstockError says in a few words why there are none."""
        ...
