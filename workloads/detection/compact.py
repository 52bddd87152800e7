"""A small detector of our own: anchor-free, three resolutions, quick on a CPU.

Shapes: B pictures of H x W pixels, A places (all cells of strides 4, 8 and 16, H W / 16 + H W / 64 + H W / 256),
L labels, n boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (4, 8, 16)
PRIOR = 0.01  # score of everything before the first step (Lin et al. 2017, focal loss)


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(4, channels)


def convolution(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    padding = (size - stride + 1) // 2
    layer = nn.Conv2d(before, after, size, stride, padding, bias=False)
    return nn.Sequential(layer, norm(after), nn.ReLU(inplace=True))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)


class Head(nn.Module):
    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.classes = nn.Sequential(convolution(channels, channels), nn.Conv2d(channels, labels, 1))
        self.sides = nn.Sequential(convolution(channels, channels), nn.Conv2d(channels, 4, 1))
        nn.init.normal_(self.classes[1].weight, std=0.01)
        nn.init.constant_(self.classes[1].bias, -math.log(1 / PRIOR - 1))
        nn.init.normal_(self.sides[1].weight, std=0.01)
        nn.init.constant_(self.sides[1].bias, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.classes(x), self.sides(x)], 1).flatten(2)


class Compact(nn.Module):
    def __init__(self, labels: int, width: int = 32, stem="a", blocks=(1, 2, 2, 1), wide=(1, 2, 3, 4)) -> None:
        super().__init__()
        self.labels = labels
        w4, w8, w16, w32 = (k * width for k in wide)
        if stem == "a":
            self.stem = nn.Sequential(convolution(3, width // 2, 4, 2), convolution(width // 2, w4, 2, 2))
        elif stem == "b":
            self.stem = nn.Sequential(convolution(3, w4, 8, 4))
        elif stem == "c":
            self.stem = nn.Sequential(convolution(3, width // 2, 3, 2), convolution(width // 2, w4, 3, 2))
        R = lambda c, n: [Residual(c) for _ in range(n)]
        self.c4 = nn.Sequential(*R(w4, blocks[0]))
        self.c8 = nn.Sequential(convolution(w4, w8, 2, 2), *R(w8, blocks[1]))
        self.c16 = nn.Sequential(convolution(w8, w16, 2, 2), *R(w16, blocks[2]))
        self.c32 = nn.Sequential(convolution(w16, w32, 2, 2), *R(w32, blocks[3]))
        self.down32 = nn.Conv2d(w32, w16, 1)
        self.down16 = nn.Conv2d(w16, w8, 1)
        self.down8 = nn.Conv2d(w8, w4, 1)
        self.p16, self.p8, self.p4 = convolution(w16, w16), convolution(w8, w8), convolution(w4, w4)
        self.heads = nn.ModuleList(Head(c, labels) for c in (w4, w8, w16))
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """-> logits [B, A, L], boxes [B, A, 4]"""
        x = (images - 0.45) / 0.25
        c4 = self.c4(self.stem(x))
        c8 = self.c8(c4)
        c16 = self.c16(c8)
        c32 = self.c32(c16)
        p16 = self.p16(c16 + up(self.down32(c32)))
        p8 = self.p8(c8 + up(self.down16(p16)))
        p4 = self.p4(c4 + up(self.down8(p8)))
        outs, pts, strides = [], [], []
        for head, level, stride in zip(self.heads, (p4, p8, p16), STRIDES):
            outs.append(head(level))
        out = torch.cat(outs, 2).transpose(1, 2)
        where, stride = places(images.shape[2], images.shape[3], images.device)
        logits, raw = out[..., : self.labels], out[..., self.labels :]
        side = raw.clamp(max=5.0).exp() * stride[:, None]
        boxes = torch.cat([where - side[..., :2], where + side[..., 2:]], 2)
        return logits, boxes


def up(x):
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def places(h, w, device):
    pts, ss = [], []
    for s in STRIDES:
        y = (torch.arange(h // s, device=device) + 0.5) * s
        x = (torch.arange(w // s, device=device) + 0.5) * s
        gy, gx = torch.meshgrid(y, x, indexing="ij")
        pts.append(torch.stack([gx, gy], 2).view(-1, 2))
        ss.append(torch.full((pts[-1].shape[0],), float(s), device=device))
    return torch.cat(pts), torch.cat(ss)


def iou_pair(a, b, kind="giou"):
    lt = torch.maximum(a[..., :2], b[..., :2]); rb = torch.minimum(a[..., 2:], b[..., 2:])
    wh = (rb - lt).clamp(min=0); inter = wh[..., 0] * wh[..., 1]
    aa = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1]); bb = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    union = aa + bb - inter
    iou = inter / union.clamp(min=1e-6)
    if kind == "iou":
        return iou
    LT = torch.minimum(a[..., :2], b[..., :2]); RB = torch.maximum(a[..., 2:], b[..., 2:])
    c = (RB - LT).clamp(min=0); area = (c[..., 0] * c[..., 1]).clamp(min=1e-6)
    return iou, iou - (area - union) / area


@torch.no_grad()
def assign(logits, boxes, gt, labels, where, stride, mode, k=10, alpha=1.0, beta=6.0):
    """-> index of the box of each place (-1 none), quality target"""
    n = len(gt)
    A = len(where)
    wh = gt[:, 2:] - gt[:, :2]
    ctr = (gt[:, 2:] + gt[:, :2]) / 2
    size = wh.prod(1).sqrt()
    if mode == "static":
        lev = torch.tensor([4.0, 8.0, 16.0])[torch.bucketize(size, torch.tensor([40.0, 100.0]))]
        d = (where[None] - ctr[:, None]).abs() / stride[None, :, None]
        half = torch.minimum(torch.maximum(wh[:, None] / 2 / stride[None, :, None], torch.tensor(0.5)), torch.tensor(1.5))
        inside = (d <= half).all(2) & (stride[None] == lev[:, None])
        cost = torch.where(inside, size[:, None].expand(-1, A), torch.tensor(math.inf))
        best, own = cost.min(0)
        own = torch.where(best.isfinite(), own, -1)
        return own, None
    # task-aligned: candidates inside the box (grown to a cell's reach), the k best by score^alpha iou^beta
    half = torch.maximum(wh[:, None] / 2, 1.0 * stride[None, :, None].expand(n, A, 1))
    inside = ((where[None] - ctr[:, None]).abs() <= half).all(2)
    iou = iou_pair(boxes[None], gt[:, None], "iou")
    score = logits.sigmoid().T[labels]
    metric = score.pow(alpha) * iou.pow(beta)
    # before boxes are any good the nearest places decide
    near = 1e-9 / (1 + ((where[None] - ctr[:, None]) / stride[None, :, None]).pow(2).sum(2))
    m = torch.where(inside, metric + near, torch.tensor(-1.0))
    top = m.topk(k, 1).indices
    chosen = torch.zeros_like(inside).scatter_(1, top, True) & inside
    pick = torch.where(chosen, iou + 1e-6, torch.tensor(-1.0))
    best, own = pick.max(0)
    own = torch.where(best > 0, own, -1)
    # normalised alignment as target
    m = torch.where(own[None] == torch.arange(n)[:, None], metric, torch.tensor(0.0))
    u = torch.where(own[None] == torch.arange(n)[:, None], iou, torch.tensor(0.0))
    t = m / m.amax(1, keepdim=True).clamp(min=1e-12) * u.amax(1, keepdim=True)
    return own, t.amax(0)


def loss(model, images, gts, labels, mode="tal", gain=2.0, **kw):
    logits, boxes = model(images)
    where, stride = places(images.shape[2], images.shape[3], images.device)
    total = logits.sum() * 0
    weight = 0.0
    parts = [0.0, 0.0]
    for z, b, gt, lab in zip(logits, boxes, gts, labels):
        target = torch.zeros_like(z)
        if len(gt):
            own, q = assign(z, b, gt, lab, where, stride, mode, **kw)
            pos = (own >= 0).nonzero()[:, 0]
            which = own[pos]
            iou, giou = iou_pair(b[pos], gt[which])
            if q is None:
                count = torch.bincount(which, minlength=len(gt))
                w = 1.0 / count[which]
                w = w * 4
                target[pos, lab[which]] = iou.detach().clamp(min=0)
            else:
                w = q[pos]
                target[pos, lab[which]] = w
            lb = ((1 - giou) * w).sum() * gain
            weight += w.sum().item()
            total = total + lb
            parts[1] += lb.item()
        p = z.detach().sigmoid()
        modulate = torch.where(target > 0, (target - p).abs().pow(0 if mode == "tal" else 2) if mode == "tal" else (target - p).abs().pow(2), 0.75 * p.pow(2))
        lc = (F.binary_cross_entropy_with_logits(z, target, reduction="none") * modulate).sum()
        parts[0] += lc.item()
        total = total + lc
        weight += 1.0
    return total, weight, parts


@torch.no_grad()
def detect(model, images, iou=0.6, least=0.01, most=300):
    from torchvision.ops import batched_nms
    logits, boxes = model(images)
    outs = []
    for z, b in zip(logits.sigmoid(), boxes):
        s, place_label = z.flatten().sort(descending=True)
        s, place_label = s[:1000], place_label[:1000]
        keep = s > least
        s, place_label = s[keep], place_label[keep]
        place, lab = place_label // z.shape[1], place_label % z.shape[1]
        bb = b[place]
        bb = bb.clamp(min=0); bb[:, 0::2].clamp_(max=images.shape[3]); bb[:, 1::2].clamp_(max=images.shape[2])
        k = batched_nms(bb, s, lab, iou)[:most]
        outs.append((bb[k], s[k], lab[k]))
    return outs
