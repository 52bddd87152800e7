"""Recordings to answers: the only inference code of this workload."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from penstock.workload import Model, Refusal
from workloads.speech.config import Config
from workloads.speech.data import fit, load
from workloads.speech.messages import SpeechAnswer, SpeechRequest, Word
from workloads.speech.model import build

BATCH = 64  # windows the network hears at once, so that a minute of audio needs no more memory than a second
FRAME = 0.01  # seconds
PAUSE = 0.12  # seconds of silence that end a word; the closure of a "k" or "t" is shorter
MARGIN = 0.04  # seconds kept on either side of a sound
SHORTEST = 0.08  # seconds; a shorter sound is a click
QUIET_DB = 35.0  # what is further below the loudest frame is silence
SILENCE_DB = -80.0  # of full scale; what is below is silence in any company

Span = tuple[int, int]  # samples: start, end
Scores = np.ndarray[Any, Any]  # float64 [labels], probabilities


class SpeechPredictor:
    """A loaded listener, answering a batch at a time."""

    def __init__(self, model: Model[Config], device: str) -> None:
        self.data = model.config.data
        self.labels = model.schema.labels
        self.actions: dict[str, str] = tomllib.loads(model.schema.assets.get("actions.toml", b"").decode())
        self.device = device
        self.module = build(model.config, model.schema)
        self.module.load_state_dict(dict(model.weights))
        self.module.to(device).eval()

    def predict(self, requests: Sequence[SpeechRequest]) -> list[SpeechAnswer | Refusal]:
        waves: list[np.ndarray[Any, Any] | Refusal] = []
        for request in requests:
            try:
                waves.append(load(request.audio, self.data.rate))
            except ValueError as error:
                waves.append(Refusal(str(error), "/audio"))
        spans = [[] if isinstance(wave, Refusal) else self.windows(wave) for wave in waves]
        clips = [
            fit(wave[start:end], self.data.samples)
            for wave, windows in zip(waves, spans, strict=True)
            if not isinstance(wave, Refusal)
            for start, end in windows
        ]
        heard = iter(self.listen(clips))
        answers: list[SpeechAnswer | Refusal] = []
        for request, wave, windows in zip(requests, waves, spans, strict=True):
            if isinstance(wave, Refusal):
                answers.append(wave)
            else:
                timed = [(span, next(heard)) for span in windows]
                whole = timed[0][1]
                words = timed[1:] if len(wave) > self.data.samples else timed
                answers.append(self.answer(whole, words, request.min_score))
        return answers

    def windows(self, wave: np.ndarray[Any, Any]) -> list[Span]:
        """Where to listen, as samples (start, end): the whole; in a recording longer than a clip also each
        sound between pauses, and across one longer than a clip a window slides by half its length."""
        samples = self.data.samples
        found = [(0, len(wave))]
        if len(wave) <= samples:
            return found
        for start, end in sounds(wave, self.data.rate):
            last = max(start, end - samples)
            found += [(at, min(at + samples, end)) for at in [*range(start, last, samples // 2), last]]
        return found

    @torch.inference_mode()
    def listen(self, clips: Sequence[np.ndarray[Any, Any]]) -> list[Scores]:
        """Probabilities float64 [labels] of each clip."""
        heard: list[Scores] = []
        for k in range(0, len(clips), BATCH):
            wave = torch.from_numpy(np.stack(clips[k : k + BATCH])).to(self.device)
            heard += list(self.module(wave).double().softmax(1).cpu().numpy())
        return heard

    def answer(self, whole: Scores, timed: Sequence[tuple[Span, Scores]], min_score: float) -> SpeechAnswer:
        """What was heard as a whole, and span by span as a time line."""
        words: list[Word] = []
        for (start, end), scores in timed:
            label, score = self.labels[int(scores.argmax())], float(scores.max())
            if score < min_score:
                continue
            begin, stop = start / self.data.rate, end / self.data.rate
            if words and words[-1].label == label and begin < words[-1].end - 1 / self.data.rate - 2 * MARGIN:
                # Two windows over the same sound heard the same word: one word.
                words[-1] = words[-1].model_copy(update={"end": stop, "score": max(score, words[-1].score)})
            else:
                action = self.actions.get(label)
                words.append(Word(start=begin, end=stop, label=label, score=score, action=action))
        best = self.labels[int(whole.argmax())]
        return SpeechAnswer(
            label=best,
            probabilities=dict(zip(self.labels, whole.tolist(), strict=True)),
            action=self.actions.get(best),
            words=words,
            text=" ".join(word.label for word in words),
        )


def sounds(wave: np.ndarray[Any, Any], rate: int) -> list[Span]:
    """Stretches between pauses as samples (start, end), a margin included."""
    frame = round(FRAME * rate)
    frames = wave[: len(wave) // frame * frame].reshape(-1, frame)
    level = 10 * np.log10(np.square(frames, dtype=np.float64).mean(1) + 1e-12)
    # Noise that never stops raises the bar: a frame must stand out from the quietest tenth.
    bar = max(level.max() - QUIET_DB, min(np.percentile(level, 10) + 6, level.max() - 12), SILENCE_DB)
    loud = np.flatnonzero(level > bar)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > PAUSE / FRAME) + 1)
    margin = round(MARGIN * rate)
    return [
        (max(0, int(g[0]) * frame - margin), min(len(wave), (int(g[-1]) + 1) * frame + margin))
        for g in groups
        if len(g) and (g[-1] - g[0] + 1) * FRAME >= SHORTEST
    ]
