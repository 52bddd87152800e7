"""A small generated world of six words that no download is needed for.

Every word is one order of the same three vowels, so only time tells words apart: their mean spectra are the
same. Twelve speakers differ in pitch, length of the vocal tract, pace, loudness and noise; three of them
are heard in the test split only. A listener who knew the vowels would make no mistake: the best score is 1.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from penstock.errors import DataError
from penstock.workload import Item, Row, Scan, Schema
from workloads.speech.config import Data

WORDS = ("aiu", "aui", "iau", "iua", "uai", "uia")
ACTIONS = b'aiu = "light.on"\naui = "light.off"\niau = "blind.up"\niua = "blind.down"\n'
FORMANTS = {"a": (800, 1250, 2600), "i": (300, 2250, 3000), "u": (330, 800, 2300)}  # Hz, of an average tract
SPEAKERS, TEST_SPEAKERS = 12, 3
RATE = 8_000  # Hz


class Synthetic:
    """The source `synthetic`: `data.clips` words, as WAV."""

    def scan(self, path: str, config: Data) -> Scan:
        if config.clips < 2 * SPEAKERS * len(WORDS):
            raise DataError(f"data.clips = {config.clips}: at least {2 * SPEAKERS * len(WORDS)} are needed")
        if config.leave_out:
            raise DataError(f"data.leave_out = {config.leave_out!r}: synthetic has test speakers of its own")
        items = []
        for number in range(config.clips):
            word, who = number % len(WORDS), number // len(WORDS) % SPEAKERS
            items.append(
                Item(
                    name=f"{WORDS[word]}/{WORDS[word]}_{who}_{number}.wav",
                    split="test" if who < TEST_SPEAKERS else "train",
                    unit=str(who),
                    where={"number": number, "word": WORDS[word], "speaker": who},
                )
            )
        return Scan(items, Schema(WORDS, assets={"actions.toml": ACTIONS}), licence="CC0-1.0")

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row]:
        for item in items:
            draw = np.random.Generator(np.random.Philox(key=(7, item.where["number"])))
            wave = say(item.where["word"], item.where["speaker"], draw)
            yield {"audio": to_wav(wave, RATE), "label": schema.labels.index(item.where["word"])}


def say(word: str, who: int, draw: np.random.Generator) -> np.ndarray[Any, Any]:
    """A word in a voice, with noise: float32 [samples] at 8 kHz, 0.3 to 0.75 s."""
    voice = np.random.Generator(np.random.Philox(key=(11, who)))
    pitch, tract, pace = voice.uniform(90, 240), voice.uniform(0.82, 1.22), voice.uniform(0.8, 1.25)
    lengths = draw.uniform(0.09, 0.19, len(word)) * pace
    samples = int(lengths.sum() * RATE)
    # Formants and pitch glide from vowel to vowel, as in running speech.
    knots = np.cumsum(lengths) - lengths / 2
    time = np.arange(samples) / RATE
    bend = tract * draw.uniform(0.94, 1.06)
    formants = [np.interp(time, knots, [FORMANTS[v][k] * bend for v in word]) for k in range(3)]
    hum = pitch * draw.uniform(0.9, 1.1) * (1 + draw.uniform(-0.2, 0.2) * time / time[-1])
    phase = 2 * np.pi * np.cumsum(hum) / RATE
    wave = np.zeros(samples)
    for harmonic in range(1, int(3_800 / hum.min())):
        # A harmonic is as loud as the formants near it let it be.
        loudness = sum(1 / (1 + ((harmonic * hum - f) / (60 + 0.06 * f)) ** 2) for f in formants)
        wave += np.where(harmonic * hum < 3_900, loudness, 0) / harmonic**0.5 * np.sin(harmonic * phase)
    wave *= np.interp(time, [0, 0.03, time[-1] - 0.04, time[-1]], [0, 1, 1, 0])
    noise = draw.standard_normal(samples) * wave.std() * 10 ** (-draw.uniform(0, 15) / 20)
    wave = wave + noise
    return (draw.uniform(0.05, 0.9) * wave / np.abs(wave).max()).astype(np.float32)


def to_wav(wave: np.ndarray[Any, Any], rate: int) -> bytes:
    """16-bit WAV of a float wave in -1..1."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
