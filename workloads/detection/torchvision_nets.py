"""torchvision's detectors, with losses that hang on nothing but the picture and its key.

torchvision averages over the batch and samples by the global generator. Here the layers see the whole
batch, every loss is that of one picture, and the sampling is keyed by the picture, so that neither the
number of workers nor the cut into micro-batches changes anything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import transform
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import FrozenBatchNorm2d

from penstock.errors import ModelError
from workloads.detection.config import Net

LEAST, MOST = 0.01, 300  # score and number of the boxes given for a picture
Target = dict[str, Tensor]


class Torchvision(nn.Module):
    """A torchvision detector that looks at canvases; labels count from 0, without a background."""

    def __init__(self, net: Net, labels: int, pretrained: bool = False) -> None:
        super().__init__()
        self.inner = PerPicture(net, labels, pretrained)

    def losses(
        self, images: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor], keys: Sequence[int]
    ) -> tuple[Tensor, float]:
        """Images [B, 3, H, W] in 0..1 -> the sum of their losses, B. `boxes` [n, 4] and `labels` [n] of each;
        `keys` seed what is sampled in it."""
        targets = [
            {"boxes": each, "labels": label + self.inner.background}
            for each, label in zip(boxes, labels, strict=True)
        ]
        loss: Tensor = self.inner(images, targets, keys)
        return loss, float(len(images))

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes [k, 4] by falling score, scores [k], labels int64 [k] of each image."""
        found = self.inner.model(list(images)) if len(images) else []
        return [(one["boxes"], one["scores"], one["labels"] - self.inner.background) for one in found]


class PerPicture(nn.Module):
    """A detector as one module (FSDP gathers parameters where a module is called)."""

    def __init__(self, net: Net, labels: int, pretrained: bool) -> None:
        super().__init__()
        self.background = 0 if net.kind.startswith(("retinanet", "fcos")) else 1  # label 0 is taken
        self.model = load(net, labels + self.background, pretrained)
        self.sampler = KeyedSampler()
        if isinstance(self.model, FasterRCNN):
            for part, count, share in ((self.model.rpn, 256, 0.5), (self.model.roi_heads, net.rois, 0.25)):
                part.fg_bg_sampler = self.sampler.of(count, share)

    def forward(self, images: Tensor, targets: Sequence[Target], keys: Sequence[int]) -> Tensor:
        # every parameter takes part, also where there is nothing to learn from
        total = torch.stack([parameter.sum() * 0.0 for parameter in self.parameters()]).sum()
        if not len(images):
            return total
        prepared, _ = self.model.transform(list(images))
        features = self.model.backbone(prepared.tensors)
        if isinstance(features, Tensor):
            features = OrderedDict([("0", features)])
        compute = self.two_stages if isinstance(self.model, FasterRCNN) else self.one_stage
        return total + compute(prepared, features, targets, keys)

    def one_stage(
        self, images: ImageList, features: dict[str, Tensor], targets: Sequence[Target], keys: Sequence[int]
    ) -> Tensor:
        """RetinaNet, SSD, FCOS."""
        maps = list(features.values())
        heads = self.model.head(maps)
        anchors = self.model.anchor_generator(images, maps)
        options: list[Any] = []
        if isinstance(self.model, FCOS):
            options = [[each.shape[-2] * each.shape[-1] for each in maps]]
        losses = []
        for i, target in enumerate(targets):
            own = {name: values[i : i + 1] for name, values in heads.items()}
            if hasattr(self.model, "proposal_matcher") and not isinstance(self.model, FCOS):
                losses += self.matched(own, anchors[i], target).values()
            else:
                losses += self.model.compute_loss([target], own, [anchors[i]], *options).values()
        return torch.stack(losses).sum()
