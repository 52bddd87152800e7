"""How answers are scored, and what the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from penstock.evaluation.measures import macro_f1
from penstock.workload import Refusal, Row, Schema
from workloads.speech.config import Config
from workloads.speech.messages import SpeechAnswer, SpeechRequest

if TYPE_CHECKING:
    from penstock.report import Figure

MOST_SPEAKERS = 40  # bars one can tell apart


class SpeechEvaluator:
    """Accuracy and macro F1 over clips."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.labels = schema.labels

    def requests(self, rows: Sequence[Row]) -> list[SpeechRequest]:
        return [SpeechRequest(audio=row["audio"]) for row in rows]

    def records(self, rows: Sequence[Row], answers: Sequence[SpeechAnswer | Refusal]) -> pa.Table:
        heard = [-1 if isinstance(a, Refusal) else self.labels.index(a.label) for a in answers]
        score = [0.0 if isinstance(a, Refusal) else a.probabilities[a.label] for a in answers]
        label = pa.array([int(row["label"]) for row in rows], pa.int64())
        return pa.table(
            {"label": label, "heard": pa.array(heard, pa.int64()), "score": pa.array(score, pa.float64())}
        )

    def summarise(self, records: pa.Table) -> dict[str, float]:
        label, heard = records["label"].to_numpy(), records["heard"].to_numpy()
        if not len(label):
            return {"accuracy": float("nan"), "macro_f1": float("nan")}
        return {
            "accuracy": float((label == heard).mean()),
            "macro_f1": macro_f1(label, heard, len(self.labels)),
        }

    def figures(
        self, records: pa.Table, rows: Sequence[Row], answers: Sequence[SpeechAnswer | Refusal]
    ) -> list[Figure]:
        """The confusion matrix, and where several clips a speaker are known, who is understood how well."""
        from penstock.report import confusion_figure

        label, heard = records["label"].to_numpy(), records["heard"].to_numpy()
        speakers, who = np.unique(
            records["unit"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True
        )
        made = [confusion_figure(label, heard, self.labels)]
        if 2 * len(speakers) <= len(label) and len(speakers) <= MOST_SPEAKERS:
            made.append(
                speaker_figure(speakers.tolist(), np.bincount(who, label == heard) / np.bincount(who))
            )
        return made


def speaker_figure(speakers: Sequence[str], accuracy: Any) -> Figure:
    from penstock.report.figures import draw

    def paint(axes: Any) -> None:
        bars = axes.barh(speakers, accuracy)
        axes.bar_label(bars, [f"{share:.3f}" for share in accuracy], padding=3, fontsize=8)
        axes.set(xlabel="accuracy", xlim=(0, 1.1))
        axes.invert_yaxis()

    return draw("Accuracy by speaker", paint, height=1.2 + 0.22 * len(speakers))
