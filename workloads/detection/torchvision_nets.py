"""torchvision's detectors, with losses that hang on nothing but the picture and its key.

torchvision averages over the batch and samples by the global generator. Here the layers see the whole
batch, every loss is that of one picture, and what is sampled in a picture is keyed by it: neither the
number of workers nor the cut into micro-batches changes anything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from workloads.detection.config import Net
from workloads.detection.torchvision_build import construct

Target = dict[str, Tensor]
FIRST_STAGE = 256  # anchors a picture that Faster R-CNN's first stage learns from, as torchvision has it


class Torchvision(nn.Module):
    """A torchvision detector that looks at whole canvases. Labels count from 0, without a background."""

    def __init__(self, net: Net, labels: int, pretrained: bool = False) -> None:
        super().__init__()
        self.inner = PerPicture(net, labels, pretrained)

    def losses(
        self, images: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor], keys: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] in 0..1 -> the sum of their losses, B. `boxes` [n, 4] in pixels and `labels`
        [n] of each; `keys` seed what is sampled in it."""
        shift = self.inner.background
        targets = [{"boxes": box, "labels": label + shift} for box, label in zip(boxes, labels, strict=True)]
        return self.inner(images, targets, keys), torch.tensor(float(len(images)))

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes [k, 4] by falling score, scores [k] and labels int64 [k] of each image."""
        found = self.inner.model(list(images)) if len(images) else []
        shift = self.inner.background
        return [(one["boxes"], one["scores"], one["labels"] - shift) for one in found]


class PerPicture(nn.Module):
    """A detector and its losses as one module, as FSDP gathers parameters where a module is called."""

    def __init__(self, net: Net, labels: int, pretrained: bool) -> None:
        super().__init__()
        self.background = 0 if net.kind.startswith(("fcos", "retinanet")) else 1  # label 0 is free in these
        self.model: Any = construct(net, labels + self.background, pretrained)
        self.samplers: list[KeyedSampler] = []
        if isinstance(self.model, FasterRCNN):
            self.samplers = [KeyedSampler(FIRST_STAGE, 0.5), KeyedSampler(net.rois, 0.25)]
            self.model.rpn.fg_bg_sampler, self.model.roi_heads.fg_bg_sampler = self.samplers

    def forward(self, images: Tensor, targets: Sequence[Target], keys: Sequence[int]) -> Tensor:
        # every parameter takes part, also where there is nothing to learn from
        nothing = torch.stack([parameter.sum() * 0.0 for parameter in self.parameters()]).sum()
        if not len(images):
            return nothing
        canvases: ImageList = self.model.transform(list(images))[0]
        features = self.model.backbone(canvases.tensors)
        if isinstance(features, Tensor):
            features = OrderedDict([("0", features)])
        if isinstance(self.model, FasterRCNN):
            return nothing + self.two_stages(canvases, features, targets, keys)
        return nothing + self.one_stage(canvases, list(features.values()), targets)

    def one_stage(self, images: ImageList, maps: list[Tensor], targets: Sequence[Target]) -> Tensor:
        heads = self.model.head(maps)
        anchors = self.model.anchor_generator(images, maps)
        losses: list[Tensor] = []
        for i, target in enumerate(targets):
            own = {name: values[i : i + 1] for name, values in heads.items()}
            rest: list[Any] = []
            if isinstance(self.model, FCOS):
                rest = [[each.shape[-2] * each.shape[-1] for each in maps]]
            elif isinstance(self.model, SSD):
                rest = [[self.matches(anchors[i], target["boxes"])]]
            losses += self.model.compute_loss([target], own, [anchors[i]], *rest).values()
        return torch.stack(losses).sum()

    def matches(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """The box of each anchor, int64 [anchors], -1 for none."""
        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        matched: Tensor = self.model.proposal_matcher(box_iou(boxes, anchors))
        return matched

    def two_stages(
        self, images: ImageList, features: dict[str, Tensor], targets: Sequence[Target], keys: Sequence[int]
    ) -> Tensor:
        """Faster R-CNN (Ren et al. 2015)."""
        rpn, heads = self.model.rpn, self.model.roi_heads
        maps = list(features.values())
        anchors = rpn.anchor_generator(images, maps)
        scores, moves = rpn.head(maps)
        each_level = [level[0].numel() for level in scores]
        flat_scores, flat_moves = concat_box_prediction_layers(scores, moves)
        proposed = rpn.box_coder.decode(flat_moves.detach(), anchors).view(len(targets), -1, 4)
        kept, _ = rpn.filter_proposals(proposed, flat_scores, images.image_sizes, each_level)
        score_of, moves_of = flat_scores.chunk(len(targets)), flat_moves.chunk(len(targets))
        losses: list[Tensor] = []
        chosen, chosen_labels, chosen_moves = [], [], []
        for i, (target, key) in enumerate(zip(targets, keys, strict=True)):
            for sampler in self.samplers:
                sampler.seed(key)
            labels, matched = rpn.assign_targets_to_anchors([anchors[i]], [target])
            goal = rpn.box_coder.encode(matched, [anchors[i]])
            losses += rpn.compute_loss(score_of[i], moves_of[i], labels, goal)
            rois, _, roi_labels, roi_moves = heads.select_training_samples([kept[i]], [target])
            chosen += rois
            chosen_labels += roi_labels
            chosen_moves += roi_moves
        pooled = heads.box_head(heads.box_roi_pool(features, chosen, images.image_sizes))
        logits, moved = heads.box_predictor(pooled)
        counts = [len(rois) for rois in chosen]
        parts = zip(logits.split(counts), moved.split(counts), chosen_labels, chosen_moves, strict=True)
        for logit, move, label, goal in parts:
            losses += fastrcnn_loss(logit, move, [label], [goal])
        return torch.stack(losses).sum()


class KeyedSampler(BalancedPositiveNegativeSampler):  # type: ignore[misc]  # torchvision has no types
    """Chooses at most `count` candidates of one picture, at most `share` of them positive, by its key."""

    def __init__(self, count: int, share: float) -> None:
        super().__init__(count, share)
        self.generator = torch.Generator()

    def seed(self, key: int) -> None:
        self.generator.manual_seed(key)

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        positives, negatives = [], []
        for labels in matched_idxs:
            positive = self.some(labels >= 1, int(self.batch_size_per_image * self.positive_fraction))
            positives.append(positive)
            negatives.append(self.some(labels == 0, self.batch_size_per_image - int(positive.sum())))
        return positives, negatives

    def some(self, candidates: Tensor, most: int) -> Tensor:
        """A mask of at most `most` of `candidates`, bool, any shape."""
        places = candidates.nonzero()[:, 0]
        order = torch.randperm(len(places), generator=self.generator)[:most]
        mask = torch.zeros_like(candidates)
        mask[places[order.to(places.device)]] = True
        return mask
