"""What a client sends and gets. Light enough for the command line to import."""

from __future__ import annotations

import base64
import io
import math
import wave

from pydantic import BaseModel, ConfigDict, Field

from penstock.media import AudioBytes


def example_wav() -> str:
    """A fifth of a second of a rising tone, as base64 of WAV with 8 bits at 8 kHz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 1, 8_000, 0, "NONE", ""))
        out.writeframes(bytes(round(128 + 100 * math.sin(0.2 * n + 0.0001 * n * n)) for n in range(1_600)))
    return base64.b64encode(file.getvalue()).decode("ascii")


class SpeechRequest(BaseModel):
    """A recording with one or several words."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"audio": example_wav()}]})

    audio: AudioBytes = Field(description="WAV, 8 to 48 kHz, mono or stereo, up to 60 s; base64 in JSON")
    min_score: float = Field(0.5, ge=0, le=1, description="less certain words are left out of `words`")


class Word(BaseModel):
    """A word on the time line."""

    start: float = Field(description="seconds from the beginning")
    end: float = Field(description="seconds from the beginning")
    label: str
    score: float = Field(description="probability, 0 to 1")
    action: str | None = Field(None, description="what the label stands for in actions.toml")


class SpeechAnswer(BaseModel):
    """What was heard."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "label": "seven",
                    "probabilities": {"six": 0.02, "seven": 0.98},
                    "action": "light.on",
                    "words": [
                        {"start": 0.0, "end": 0.4, "label": "seven", "score": 0.98, "action": "light.on"}
                    ],
                    "text": "seven",
                }
            ]
        }
    )

    label: str = Field(description="the word; of a longer recording, the one in its loudest stretch")
    probabilities: dict[str, float] = Field(description="of every label, for that same word")
    action: str | None = Field(None, description="what the label stands for in actions.toml")
    words: list[Word] = Field(description="the time line: every word with its place")
    text: str = Field(description="the words of the time line, joined")
