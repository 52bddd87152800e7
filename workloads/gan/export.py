"""The generator as a graph: noise and class shares to a picture."""

from __future__ import annotations

from torch import Tensor, nn

from penstock.graphs import Export, Graph
from workloads.gan.model import Generator
from workloads.gan.predict import STREAM, GanPredictor


class Alone(nn.Module):
    """A generator that knows no classes: noise [B, Z] -> pictures [B, C, S, S]."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, noise: Tensor) -> Tensor:
        pictures: Tensor = self.generator(noise, noise[:, :0])
        return pictures


class Classless(Generator):
    """What asks it, in the shape of any generator."""

    def __init__(self, alone: Alone) -> None:
        super().__init__()
        self.alone = alone
        self.noise, self.classes = alone.generator.noise, 0

    def forward(self, noise: Tensor, shares: Tensor) -> Tensor:
        pictures: Tensor = self.alone(noise)
        return pictures


def export(predictor: GanPredictor) -> Export:
    """Every generator can leave; discriminators stay."""
    generator, labels = predictor.generator, list(predictor.labels)
    module: nn.Module = generator
    inputs: dict[str, tuple[int | str, ...]] = {"noise": ("batch", generator.noise)}
    if labels:
        inputs["shares"] = ("batch", len(labels))
    else:
        module = alone = Alone(generator)
        predictor.generator = Classless(alone)
    classes = [
        "`shares`: 1 for the class that is wanted, 0 for the others; between two classes, parts of both",
    ]
    return Export(
        {"model": Graph(module, inputs, {"pictures": ("batch", "channels", "rows", "columns")})},
        preprocessing={
            "steps": [
                "`noise`: standard normal numbers, times the request's truncation",
                "the platform draws them by numpy.random.Generator(Philox(key=(seed, stream))), "
                "standard_normal in float32; then, where it knows classes, the class of a seed that asks for "
                "none: integers(number of labels)",
                *(classes if labels else []),
                "from one seed to another: noise along the great circle, shares in a straight line",
            ],
            "noise": generator.noise,
            "stream": STREAM,
            "labels": labels,
        },
        postprocessing={
            "steps": ["(pictures + 1) x 127.5, rounded, within 0 and 255: levels, channels first"],
            "range": [-1.0, 1.0],
        },
    )
