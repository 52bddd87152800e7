"""The listener as a graph: waves to scores, the features among it."""

from __future__ import annotations

from penstock.graphs import Export, Graph
from workloads.speech.model import RANGE_DB
from workloads.speech.predict import FRAME, MARGIN, PAUSE, QUIET_DB, SHORTEST, SILENCE_DB, SpeechPredictor


def export(predictor: SpeechPredictor) -> Export:
    """Every network can leave."""
    data, labels = predictor.data, list(predictor.labels)
    mel = predictor.module.features.mel
    graph = Graph(
        predictor.module,
        inputs={"waves": ("batch", data.samples)},
        outputs={"scores": ("batch", len(labels))},
    )
    return Export(
        {"model": graph},
        preprocessing={
            "steps": [
                "decode as a mono float32 wave in -1..1, resampled to `rate`",
                "a wave of at most `samples` is centred in silence; of a longer one the loudest stretch of "
                "`samples` is heard as a whole, and each sound between pauses by itself",
                "features (mel spectrogram of power in decibels, scaled by each clip's own mean and spread) "
                "are in the graph; their settings are for the record",
            ],
            "rate": data.rate,
            "samples": data.samples,
            "features": {
                "kind": "logmel" if predictor.module.features.dct is None else "mfcc",
                "n_fft": mel.n_fft,
                "window": mel.win_length,
                "hop": mel.hop_length,
                "mels": mel.n_mels,
                "lowest_hz": mel.f_min,
                "highest_hz": data.rate / 2,
                "mel_scale": mel.mel_scale.mel_scale,
                "range_db": RANGE_DB,
            },
            "sounds": {
                "frame_s": FRAME,
                "pause_s": PAUSE,
                "margin_s": MARGIN,
                "shortest_s": SHORTEST,
                "quiet_db": QUIET_DB,
                "silence_db": SILENCE_DB,
            },
        },
        postprocessing={
            "steps": [
                "softmax over the scores, in float64: probabilities of the labels, in their order",
                "the label is the one of the largest probability; `actions` say what it stands for",
                "a word for each sound whose best score reaches the request's min_score; neighbouring "
                "windows that heard the same are one word",
            ],
            "labels": labels,
            "actions": predictor.actions,
        },
    )
