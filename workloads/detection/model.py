"""The network for given settings and labels.

Every network has two methods. `losses(images, boxes, labels, keys)`: what training minimises, summed over
the images, and the weight of that sum. `detect(images)`: boxes by falling score, scores and labels of each
image. Images are float [B, 3, H, W] in 0..1, boxes [n, 4] are left, top, right, bottom in pixels of them.
"""

from __future__ import annotations

from penstock.workload import Schema
from workloads.detection.compact import Compact
from workloads.detection.config import Config
from workloads.detection.torchvision_nets import Torchvision


def build(config: Config, schema: Schema, pretrained: bool = False) -> Compact | Torchvision:
    """Fresh weights, or `pretrained` ones where the config says so. A predictor fills in weights of its own:
    it needs no download."""
    net = config.model
    if net.kind == "compact":
        return Compact(net, len(schema.labels))
    return Torchvision(net, len(schema.labels), pretrained and net.weights != "")
