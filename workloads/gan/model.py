"""From noise to a picture, and from a picture to how real it looks: two pairs of networks.

Shapes: B pictures, C colours, S x S pixels in -1..1, Z numbers of noise, K classes (0: it knows none).
Nothing looks at more than one picture: GroupNorm in place of BatchNorm, no statistics of the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penstock.errors import ModelError
from penstock.nn import Dropout
from penstock.workload import Schema
from workloads.gan import spectral
from workloads.gan.config import Config, Net

DCGAN_NOISE = 100
SLOPE = 0.2  # of the leaky ReLU (dcgan: torch's and TensorFlow's tutorials differ; 0.3 as in the latter)
EMBEDDED = 32  # numbers a class becomes


class Generator(nn.Module):
    """noise [B, Z] and class shares [B, K] (one-hot; between two classes, parts of both) -> pictures
    [B, C, S, S] in -1..1."""

    noise: int
    classes: int


class Discriminator(nn.Module):
    """pictures [B, C, S, S] and classes int64 [B] -> scores [B], the higher the more real."""


class Gan(nn.Module):
    """Both networks: what a checkpoint holds."""

    def __init__(self, generator: Generator, discriminator: Discriminator) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator


# ---------------------------------------------------------------- the tutorial's


class DcganGenerator(Generator):
    """Noise 100, dense 7 x 7 x 256, transposed convolutions of 5 x 5 to 28 x 28, tanh.

    The tutorial's BatchNorm is GroupNorm here.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.noise, self.classes = DCGAN_NOISE, 0
        self.dense = nn.Linear(self.noise, 7 * 7 * 256, bias=False)
        self.layers = nn.Sequential(
            nn.GroupNorm(32, 256),
            nn.LeakyReLU(0.3),
            nn.ConvTranspose2d(256, 128, 5, padding=2, bias=False),
            nn.GroupNorm(16, 128),
            nn.LeakyReLU(0.3),
            nn.ConvTranspose2d(128, 64, 5, stride=2, padding=2, output_padding=1, bias=False),
            nn.GroupNorm(8, 64),
            nn.LeakyReLU(0.3),
            nn.ConvTranspose2d(64, channels, 5, stride=2, padding=2, output_padding=1, bias=False),
            nn.Tanh(),
        )

    def forward(self, noise: Tensor, shares: Tensor) -> Tensor:
        pictures: Tensor = self.layers(self.dense(noise).unflatten(1, (256, 7, 7)))
        return pictures


class DcganDiscriminator(Discriminator):
    """Two convolutions of 5 x 5 with stride 2, leaky ReLU and dropout 0.3 after each, one linear score."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 64, 5, stride=2, padding=2),
            nn.LeakyReLU(0.3),
            Dropout(0.3),
            nn.Conv2d(64, 128, 5, stride=2, padding=2),
            nn.LeakyReLU(0.3),
            Dropout(0.3),
            nn.Flatten(),
            nn.Linear(7 * 7 * 128, 1),
        )

    def forward(self, pictures: Tensor, label: Tensor) -> Tensor:
        scores: Tensor = self.layers(pictures)
        return scores[:, 0]


# ---------------------------------------------------------------- of any size


class Styled(nn.Module):
    """Cells [B, C, s, s], each picture's own scale taken away, gain and shift from its style [B, W]
    (conditional normalisation, per picture)."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.groups = channels // 8
        self.to_gain_and_shift = nn.Linear(style, 2 * channels)
        nn.init.normal_(self.to_gain_and_shift.weight, std=0.02)
        nn.init.zeros_(self.to_gain_and_shift.bias)

    def forward(self, cells: Tensor, style: Tensor) -> Tensor:
        gain, shift = self.to_gain_and_shift(style)[:, :, None, None].chunk(2, 1)
        scaled = F.group_norm(cells, self.groups)
        return F.leaky_relu(scaled * (1 + gain) + shift, SLOPE)


class ScalableGenerator(Generator):
    """Dense to a few cells, then doubled up to `size`; noise and class also steer every stage."""

    def __init__(self, net: Net, size: int, channels: int, classes: int) -> None:
        super().__init__()
        self.noise, self.classes = net.noise, classes
        sides, widths = stages(net, size)
        self.first = (widths[0], sides[0], sides[0])
        self.embedding = nn.Linear(classes, EMBEDDED, bias=False) if classes else None
        given = net.noise + (EMBEDDED if classes else 0)
        style = 128
        self.style = nn.Sequential(
            nn.Linear(given, style), nn.LeakyReLU(SLOPE), nn.Linear(style, style), nn.LeakyReLU(SLOPE)
        )
        self.dense = nn.Linear(given, widths[0] * sides[0] ** 2)
        steps = list(itertools.pairwise(widths))
        self.before = nn.ModuleList(Styled(a, style) for a, _ in steps)
        self.doubled = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in steps)
        self.after = Styled(widths[-1], style)
        self.picture = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, noise: Tensor, shares: Tensor) -> Tensor:
        given = noise if self.embedding is None else torch.cat([noise, self.embedding(shares)], 1)
        style = self.style(given)
        cells = self.dense(given).unflatten(1, self.first)
        for before, doubled in zip(self.before, self.doubled, strict=True):
            cells = doubled(before(cells, style))
        return torch.tanh(self.picture(self.after(cells, style)))


class ScalableDiscriminator(Discriminator):
    """Halved down to a few cells, one dense layer, a linear score; a class adds the product of its embedding
    with the dense layer's output (projection, Miyato and Koyama 2018)."""

    def __init__(self, net: Net, size: int, channels: int, classes: int) -> None:
        super().__init__()
        convolution, linear, embedding = spectral.layers(net.spectral_norm)
        sides, widths = stages(net, size)
        sizes = [channels, *widths[::-1][1:], min(2 * widths[0], net.widest)]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [convolution(before, after, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.dense = linear(sizes[-1] * (sides[0] // 2) ** 2, 128)
        self.score = linear(128, 1)
        self.embedding = embedding(classes, 128) if classes else None

    def forward(self, pictures: Tensor, label: Tensor) -> Tensor:
        seen = F.leaky_relu(self.dense(self.layers(pictures)), SLOPE)
        scores: Tensor = self.score(seen)[:, 0]
        if self.embedding is not None:
            scores = scores + (seen * self.embedding(label)).sum(1)
        return scores


def stages(net: Net, size: int) -> tuple[Sequence[int], Sequence[int]]:
    """Sides in pixels and channels of the stages, from the smallest to the whole picture."""
    sides = [size]
    while sides[0] > 8:
        sides.insert(0, sides[0] // 2)
    widths = [min(net.width << k, net.widest) for k in reversed(range(len(sides)))]
    return sides, widths


# ---------------------------------------------------------------- by config


def known_classes(config: Config, schema: Schema) -> int:
    """How many classes the generator can be asked for; 0 where it knows none."""
    wanted = config.model.kind == "scalable" and config.model.conditional
    return len(schema.labels) if wanted else 0


def build_generator(config: Config, schema: Schema) -> Generator:
    """With fresh weights."""
    channels = int(schema.fields["channels"])
    if config.model.kind == "dcgan":
        return DcganGenerator(channels)
    return ScalableGenerator(config.model, config.data.size, channels, known_classes(config, schema))


def build(config: Config, schema: Schema) -> Gan:
    """Both networks with fresh weights; ModelError where the data does not say how many colours it has."""
    channels = schema.fields.get("channels")
    if channels not in (1, 3):
        raise ModelError(f"the data has channels = {channels!r}; prepare it again with this workload")
    generator = build_generator(config, schema)
    if config.model.kind == "dcgan":
        return Gan(generator, DcganDiscriminator(channels))
    return Gan(
        generator,
        ScalableDiscriminator(config.model, config.data.size, channels, generator.classes),
    )
