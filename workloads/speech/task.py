"""What a training worker holds: the network, its augmented batches and its loss.

Time shift and noise bend the wave in `collate`; tempo, voice and SpecAugment bend its features on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from penstock.workload import Batch, Objective, Schema
from workloads.speech.config import Augment, Config
from workloads.speech.model import Bend, build

DRAWS = 12  # uniform numbers in 0..1 that an item's generator gives, by their place:
SHIFT, NOISY, COLOUR, OFFSET, LOUDNESS, TEMPO, SCALE, MOVE = range(8)
TIME_AT, TIME_WIDTH, MEL_AT, MEL_WIDTH = range(8, DRAWS)


class Clips(NamedTuple):
    wave: Tensor  # float32 [B, samples]
    label: Tensor  # int64 [B]
    bend: Bend


class SpeechTask:
    """Learns to name the word in a clip."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config
        self.module = build(config, schema)

    def collate(self, items: Batch) -> Clips:
        samples, augment = self.config.data.samples, self.config.augment
        reach = round(augment.shift * self.config.data.rate)
        padded = np.zeros((len(items), reach + samples + reach), np.float32)
        label = np.empty(len(items), np.int64)
        draws = np.empty((len(items), DRAWS))
        for i, (row, generator) in enumerate(items):
            padded[i, reach : reach + samples] = row["wave"]
            label[i] = row["label"]
            draws[i] = generator.random(DRAWS)
        # A row of this view is a shifted clip: one copy, no loop.
        shifted = sliding_window_view(padded, samples, axis=1)
        wave = shifted[np.arange(len(items)), np.int64(draws[:, SHIFT] * (2 * reach + 1))]
        add_noise(wave, draws, augment)
        return Clips(torch.from_numpy(wave), torch.from_numpy(label), bends(draws, augment))

    def objectives(self) -> Sequence[Objective[Clips]]:
        return [Objective("loss", list(self.module.parameters()), self.loss)]

    def loss(self, batch: Clips) -> tuple[Tensor, float]:
        scores = self.module(batch.wave, batch.bend)
        smoothing = self.config.augment.smoothing
        loss = F.cross_entropy(scores, batch.label, reduction="sum", label_smoothing=smoothing)
        return loss, len(batch.label)


def add_noise(wave: np.ndarray[Any, Any], draws: np.ndarray[Any, Any], augment: Augment) -> None:
    """Adds to some clips (in place) a stretch of white, pink or brown noise, so many dB below the speech."""
    noisy = np.flatnonzero(draws[:, NOISY] < augment.noise)
    if not len(noisy):
        return
    draws, samples = draws[noisy], wave.shape[1]
    stretches = sliding_window_view(noise_bank(), samples, axis=1)
    colours, places = stretches.shape[:2]
    noise = stretches[np.int64(draws[:, COLOUR] * colours), np.int64(draws[:, OFFSET] * places)]
    power = np.einsum("bs,bs->b", wave[noisy], wave[noisy]) / samples
    below = augment.loudest + (augment.quietest - augment.loudest) * draws[:, LOUDNESS]
    noise *= np.sqrt(power * 10 ** (-below / 10)).astype(np.float32)[:, None]
    wave[noisy] += noise


@lru_cache(maxsize=1)
def noise_bank() -> np.ndarray[Any, Any]:
    """White, pink and brown noise of power 1, the same everywhere: float32 [3, 2**19]. A random stretch of
    it costs a copy; fresh normal numbers would cost more than all the rest of the augmentation."""
    length = 2**19
    spectrum = np.fft.rfft(np.random.Generator(np.random.Philox(key=(5, 0))).standard_normal(length))
    frequency = np.maximum(np.arange(len(spectrum)), length / 400)
    noise = np.stack([np.fft.irfft(spectrum / frequency**slope, length) for slope in (0, 0.5, 1)])
    return (noise / noise.std(axis=1, keepdims=True)).astype(np.float32)


def bends(draws: np.ndarray[Any, Any], augment: Augment) -> Bend:
    """The changes of the features that the draws stand for."""
    either = 2 * draws - 1  # -1..1
    tempo, scale = 1 + augment.tempo * either[:, TEMPO], 1 + augment.voice * either[:, SCALE]
    frames, bands = augment.time_mask * draws[:, TIME_WIDTH], augment.mel_mask * draws[:, MEL_WIDTH]
    start, low = draws[:, TIME_AT] * (1 - frames), draws[:, MEL_AT] * (1 - bands)
    warp = np.stack([tempo, scale, augment.voice * either[:, MOVE]], 1)
    blank = np.stack([start, start + frames, low, low + bands], 1)
    return Bend(torch.from_numpy(np.float32(warp)), torch.from_numpy(np.float32(blank)))
