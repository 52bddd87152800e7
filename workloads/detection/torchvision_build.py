"""torchvision's detectors made to fit: any label set, canvases as they are, no BatchNorm."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torchvision.models import detection, get_model_weights
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from penstock.errors import ModelError
from workloads.detection.config import Net

LEAST, MOST = 0.01, 300  # score and number of the boxes that are given for a picture


class AsItIs(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """Normalises colours and leaves the size alone: the canvas is already what the network should see."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


def construct(net: Net, classes: int, pretrained: bool) -> Any:
    """The detector `net.kind` for `classes` (a background among them where it has one). `pretrained`: with
    torchvision's COCO weights, but for layers that another label set shapes otherwise. ModelError where the
    weights cannot be had."""
    options: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": classes}
    if net.kind.startswith("fasterrcnn"):
        options |= {"box_score_thresh": LEAST, "box_detections_per_img": MOST}
        options |= {f"rpn_post_nms_top_n_{when}": net.proposals for when in ("train", "test")}
    else:
        options |= {"score_thresh": LEAST, "detections_per_img": MOST}
    model: Any = getattr(detection, net.kind)(**options)
    if isinstance(model, FasterRCNN):
        model.rpn.score_thresh = 0.0  # of MobileNet's; from scratch no score passes it at first
    before = model.transform
    model.transform = AsItIs(1, 1, before.image_mean, before.image_std, before.size_divisible)
    if pretrained:
        fill(model, net)
    without_batch_norm(model, frozen=net.weights != "")
    return model


def fill(model: nn.Module, net: Net) -> None:
    """Copy torchvision's weights into `model` where name and shape match."""
    try:
        given = get_model_weights(net.kind).DEFAULT.get_state_dict(progress=False)
    except OSError as error:  # URLError is one
        raise ModelError(
            f"model.weights = {net.weights!r}: torchvision's {net.kind} cannot be downloaded "
            f"({getattr(error, 'reason', error)}); leave model.weights empty to start from scratch"
        ) from None
    own = model.state_dict()
    other = [name for name, value in given.items() if name in own and own[name].shape != value.shape]
    for name in other:
        del given[name]
    model.load_state_dict(given, strict=False)


def without_batch_norm(module: nn.Module, frozen: bool) -> None:
    """Put GroupNorm, or with weights the frozen numbers, in place of every BatchNorm: its means would hang on
    the batch and so on the workers."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            channels = child.num_features
            if frozen:
                fixed = FrozenBatchNorm2d(channels, child.eps)
                fixed.load_state_dict(child.state_dict(), strict=False)
                setattr(module, name, fixed)
            else:
                setattr(module, name, nn.GroupNorm(math.gcd(32, channels), channels))
        else:
            without_batch_norm(child, frozen)
