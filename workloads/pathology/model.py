"""From patches to scores: two small networks of our own, ResNet and VGG.

Shapes: B patches, 3 colours, S x S pixels, C channels of s x s cells.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from penstock.errors import ModelError
from penstock.nn import Dropout
from penstock.workload import Schema
from workloads.pathology.config import Config, Net

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which pretrained weights expect
FAINTEST = 0.02  # spread of an empty patch, so that its noise is not blown up to look like tissue


class Classifier(nn.Module):
    """Patches [B, 3, S, S] in 0..1 -> scores of the labels, before softmax [B, labels].

    Grad-CAM looks at what goes from `features` [B, C, s, s] to `head`. `own_scale`: each colour of each
    patch is measured against its own mean and spread, so that another stain or lamp changes little.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, features: nn.Module, head: nn.Module, own_scale: bool = True) -> None:
        super().__init__()
        self.features, self.head, self.own_scale = features, head, own_scale
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("spread", torch.tensor(SPREAD)[:, None, None])

    def forward(self, patches: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(self.normalised(patches)))
        return scores

    def normalised(self, patches: Tensor) -> Tensor:
        patches = patches.to(self.mean.dtype)
        if not self.own_scale:
            return (patches - self.mean) / self.spread
        centred = patches - patches.mean((2, 3), keepdim=True)
        return centred / (centred.square().mean((2, 3), keepdim=True).sqrt() + FAINTEST)


def convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.GroupNorm(8, after), nn.ReLU()]


class Pooled(nn.Module):
    """Cells [B, C, s, s] -> their mean and their maximum [B, 2 C]: how much of it, and is there any."""

    def forward(self, cells: Tensor) -> Tensor:
        return torch.cat([cells.mean((2, 3)), cells.amax((2, 3))], 1)


def cnn(net: Net, labels: int, pretrained: bool) -> Classifier:
    """Three stages of convolution and pooling, a dense layer of 128, dropout."""
    sizes = [3, net.width, 2 * net.width, 4 * net.width]
    stages = [[*convolution(a, b), nn.MaxPool2d(2)] for a, b in itertools.pairwise(sizes)]
    head = [Pooled(), nn.Linear(2 * sizes[-1], 128), nn.ReLU(), Dropout(net.dropout), nn.Linear(128, labels)]
    return Classifier(nn.Sequential(*(layer for stage in stages for layer in stage)), nn.Sequential(*head))


def deep(net: Net, labels: int, pretrained: bool) -> Classifier:
    """Five stages: the cells of the last see enough tissue to tell a gland from a heap of cells."""
    sizes = [3, *(min(2**k, 6) * net.width for k in range(5))]
    layers: list[nn.Module] = []
    for k, (before, after) in enumerate(itertools.pairwise(sizes)):
        if k:
            layers += [nn.MaxPool2d(2), *convolution(before, after), *convolution(after, after)]
        else:  # a stride spares three quarters of the work where the picture is largest
            layers += [
                nn.Conv2d(3, after, 5, stride=2, padding=2, bias=False),
                nn.GroupNorm(8, after),
                nn.ReLU(),
            ]
    head = nn.Sequential(Pooled(), Dropout(net.dropout), nn.Linear(2 * sizes[-1], labels))
    return Classifier(nn.Sequential(*layers), head)


def resnet(net: Net, labels: int, pretrained: bool) -> Classifier:
    """torchvision's; BatchNorm would depend on the workers, so GroupNorm, or frozen with weights."""
    from torchvision.ops import FrozenBatchNorm2d

    norm = FrozenBatchNorm2d if net.weights else partial(nn.GroupNorm, 32)
    whole = load(net, pretrained, norm_layer=norm)
    layers = list(whole.children())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(whole.fc.in_features, labels))
    return Classifier(nn.Sequential(*layers[:-2]), head, own_scale=not net.weights)


def vgg16(net: Net, labels: int, pretrained: bool) -> Classifier:
    """torchvision's, which has no normalisation; its dropout becomes the platform's."""
    whole = load(net, pretrained)
    layers = [
        Dropout(net.dropout) if isinstance(layer, nn.Dropout) else layer for layer in whole.classifier[:-1]
    ]
    head = nn.Sequential(whole.avgpool, nn.Flatten(), *layers, nn.Linear(4096, labels))
    return Classifier(whole.features, head, own_scale=not net.weights)


def load(net: Net, pretrained: bool, **options: Any) -> Any:
    """A torchvision network, with its ImageNet weights if wanted; ModelError where they cannot be had."""
    from torchvision import models

    try:
        return getattr(models, net.kind)(weights=net.weights if pretrained else None, **options)
    except OSError as error:  # URLError is one
        raise ModelError(
            f"model.weights = {net.weights!r}: torchvision's {net.kind} cannot be downloaded "
            f"({getattr(error, 'reason', error)}); leave model.weights empty to start from scratch"
        ) from None


KINDS = {"deep": deep, "cnn": cnn, "vgg16": vgg16, "resnet18": resnet, "resnet34": resnet, "resnet50": resnet}


def build(config: Config, schema: Schema, pretrained: bool = False) -> Classifier:
    """The network for these settings and labels, with fresh weights, or `pretrained` on ImageNet where the
    config says so. A predictor fills in weights of its own: it needs no download."""
    net = config.model
    return KINDS[net.kind](net, len(schema.labels), pretrained and net.weights != "")
