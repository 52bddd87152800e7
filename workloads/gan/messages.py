"""What a client sends and gets. Light enough for the command line to import."""

from __future__ import annotations

import base64
import struct
import zlib

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penstock.media import ImageBytes, WantsPicture

MOST = 64
"""Pictures in one answer."""
LAST_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""


def example_png(side: int = 28) -> str:
    """A grey disc, as base64 of PNG."""
    lines = b"".join(
        b"\0" + bytes(200 if (x - side / 2) ** 2 + (y - side / 2) ** 2 < 90 else 20 for x in range(side))
        for y in range(side)
    )
    parts = {
        b"IHDR": struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0),
        b"IDAT": zlib.compress(lines),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts.items()
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode("ascii")


class GanRequest(BaseModel):
    """Pictures by seed: the same seed and label always give the same picture."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"seed": 7, "count": 2, "truncation": 0.8}]}
    )

    seed: int = Field(0, ge=0, le=LAST_SEED, description="of the first picture; the next has the next one")
    count: int = Field(1, ge=1, le=MOST, description="how many pictures")
    label: str | None = Field(
        None, description="the class to draw, of a model that knows classes; null: each seed has its own"
    )
    truncation: float = Field(
        1.0,
        gt=0,
        le=1,
        description="the noise is shrunk to this share: below 1 pictures are more typical and less varied",
    )
    to_seed: int | None = Field(
        None,
        ge=0,
        le=LAST_SEED,
        description="go from `seed` to this seed in `steps` pictures; count stays 1",
    )
    steps: int = Field(8, ge=2, le=MOST, description="pictures from seed to to_seed, both ends included")
    picture: WantsPicture = Field(False, description="whether to lay the pictures out in one grid, as PNG")

    @model_validator(mode="after")
    def _one_or_the_other(self) -> GanRequest:
        if self.to_seed is not None and self.count != 1:
            raise ValueError("to_seed goes with steps, not with count")
        return self


class GanAnswer(BaseModel):
    """The pictures, each with its class and seed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"images": [example_png()], "labels": ["T-shirt"], "seeds": [7], "picture": None},
            ]
        }
    )

    images: list[ImageBytes] = Field(description="PNG, base64 in JSON")
    labels: list[str | None] = Field(
        description="what each was asked to show; null where the model knows no classes, or between two"
    )
    seeds: list[int | None] = Field(description="of each picture; null between two seeds")
    picture: ImageBytes | None = Field(None, description="PNG: all of them in a grid, row by row")
