"""From waves to scores: log-mel or MFCC, then a CNN, a CRNN or a small Transformer.

Shapes: B clips, M mel bands (or coefficients), T frames, C channels.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import create_dct
from torchaudio.transforms import MelSpectrogram

from penstock.nn import Dropout
from penstock.workload import Schema
from workloads.speech.config import Config, Net

RANGE_DB = 50.0  # what is quieter than the loudest spot by more than this counts as silence


class Bend(NamedTuple):
    """How the features of a training clip are bent, a row per clip, float32."""

    warp: Tensor  # [B, 3]: stretch of time, stretch of the mel axis, move along it; 1, 1, 0 leave it alone
    blank: Tensor  # [B, 4]: start and end of the blanked frames and mel bands, as shares of the axis


class Features(nn.Module):
    """Waves [B, samples] -> log-mel [B, M, T], or MFCC; the same at any loudness of the recording."""

    def __init__(self, rate: int, net: Net) -> None:
        super().__init__()
        window = round(0.032 * rate)  # 32 ms, every 10 ms
        hop = round(0.01 * rate)
        self.mel = MelSpectrogram(rate, 2 * window, window, hop, f_min=60.0, n_mels=net.mels)
        # Not torchaudio's MFCC: it cuts off at 80 dB below the loudest spot of the whole batch, so that an
        # answer would depend on what else is in the batch.
        dct = create_dct(net.coefficients, net.mels, "ortho") if net.features == "mfcc" else None
        self.register_buffer("dct", dct)

    def forward(self, wave: Tensor, bend: Bend | None) -> Tensor:
        if not len(wave):  # a worker without items still takes part, but a Fourier transform wants a clip
            return self(wave.new_zeros(1, wave.shape[1]), None)[:0]
        power: Tensor = self.mel(wave.to(self.mel.spectrogram.window.dtype))
        level = 10 * torch.log10(power.clamp_min(1e-20))
        level = level.maximum(level.amax((1, 2), keepdim=True) - RANGE_DB)
        level = level - level.mean((1, 2), keepdim=True)
        level = level / (level.square().mean((1, 2), keepdim=True).sqrt() + 1e-3)
        if bend is not None:
            level = blank(warp(level, bend.warp), bend.blank)
        return level if self.dct is None else torch.einsum("bmt,mc->bct", level, self.dct) / 2


def warp(level: Tensor, by: Tensor) -> Tensor:
    """Features with stretched time and a stretched and moved mel axis, about their centre."""
    grid = torch.zeros(len(by), 2, 3, dtype=level.dtype, device=level.device)
    grid[:, 0, 0], grid[:, 1, 1], grid[:, 1, 2] = by.to(level.dtype).unbind(1)
    at = F.affine_grid(grid, [len(by), 1, *level.shape[1:]], align_corners=False)
    return F.grid_sample(level[:, None], at, padding_mode="border", align_corners=False)[:, 0]


def blank(level: Tensor, shares: Tensor) -> Tensor:
    """Features with a stretch of frames and of mel bands set to their mean, 0 (SpecAugment)."""
    start, end, low, high = shares.T[:, :, None]
    bands = torch.linspace(0, 1, level.shape[1], device=level.device)
    frames = torch.linspace(0, 1, level.shape[2], device=level.device)
    hidden = ((frames >= start) & (frames < end))[:, None, :] | ((bands >= low) & (bands < high))[:, :, None]
    return level.masked_fill(hidden, 0.0)


def stage(before: int, after: int) -> nn.Sequential:
    """Two convolutions, the first to half the frames and half the bands. No max-pooling: among the equal
    values of silence rounding would choose who gets the gradient."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(8, after),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.GroupNorm(8, after),
        nn.ReLU(),
    )


class Convolutions(nn.Module):
    """Features [B, M, T] -> one vector per eighth (or quarter) frame [B, T', channels]."""

    def __init__(self, bands: int, width: int, stages: int) -> None:
        super().__init__()
        sizes = [1, *(width * 2**k for k in range(stages))]
        self.stages = nn.Sequential(*(stage(a, b) for a, b in itertools.pairwise(sizes)))
        self.channels = sizes[-1] * math.ceil(bands / 2**stages)

    def forward(self, features: Tensor) -> Tensor:
        return self.stages(features[:, None]).flatten(1, 2).transpose(1, 2)


class Recurrent(nn.Module):
    """Vectors [B, T, channels] -> what a two-way LSTM makes of them [B, T, size]."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, size // 2, batch_first=True, bidirectional=True)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.lstm(vectors)[0]


class Attention(nn.Module):
    """Vectors [B, T, channels] -> two layers of a pre-norm Transformer over them [B, T, size]."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.into = nn.Linear(channels, size)
        # Dropout of the library's layers would depend on the number of workers: none here, ours at the end.
        layer = nn.TransformerEncoderLayer(size, 4, 2 * size, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(size), enable_nested_tensor=False)

    def forward(self, vectors: Tensor) -> Tensor:
        inner = self.into(vectors)
        return self.layers(inner + positions(inner))


def positions(vectors: Tensor) -> Tensor:
    """Sines that tell a Transformer where it is: [T, size]."""
    steps, size = vectors.shape[1:]
    time = torch.arange(steps, dtype=vectors.dtype, device=vectors.device)[:, None]
    pair = torch.arange(0, size, 2, dtype=vectors.dtype, device=vectors.device)
    pace = torch.exp(pair * (-math.log(100.0) / size))
    return torch.stack([torch.sin(time * pace), torch.cos(time * pace)], -1).flatten(1)


class Listener(nn.Module):
    """Waves float [B, samples] -> scores of the labels, before softmax [B, labels]."""

    def __init__(self, config: Config, labels: int) -> None:
        super().__init__()
        net = config.model
        self.features = Features(config.data.rate, net)
        bands = net.coefficients if net.features == "mfcc" else net.mels
        self.convolutions = Convolutions(bands, net.width, stages=3 if net.kind == "cnn" else 2)
        channels = self.convolutions.channels
        size = channels if net.kind == "cnn" else 4 * net.width
        self.over_time: nn.Module = nn.Identity()
        if net.kind == "crnn":
            self.over_time = Recurrent(channels, size)
        elif net.kind == "transformer":
            self.over_time = Attention(channels, size)
        self.dropout = Dropout(net.dropout)
        self.head = nn.Linear(size, labels)

    def forward(self, wave: Tensor, bend: Bend | None = None) -> Tensor:
        with torch.autocast(wave.device.type, enabled=False):  # 16 bits are too few for a power spectrum
            features = self.features(wave, bend)
        return self.head(self.dropout(self.over_time(self.convolutions(features)).mean(1)))


def build(config: Config, schema: Schema) -> Listener:
    """The network for these settings and labels."""
    return Listener(config, len(schema.labels))
