"""What a client sends and gets. Light enough for the command line to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penstock.media import ImageBytes, WantsPicture, example_png

MOST = 64
"""Pictures in one answer."""
LAST_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""


def disc(side: int = 28) -> str:
    """A grey disc, as base64 of PNG."""
    middle, light, dark = side / 2, bytes([200] * 3), bytes([20] * 3)
    inside = [[(x - middle) ** 2 + (y - middle) ** 2 < 90 for x in range(side)] for y in range(side)]
    return example_png([b"".join(light if dot else dark for dot in row) for row in inside])


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
                {"images": [disc()], "labels": ["T-shirt"], "seeds": [7], "picture": None},
            ]
        }
    )

    images: list[ImageBytes] = Field(description="PNG, base64 in JSON")
    labels: list[str | None] = Field(
        description="what each was asked to show; null where the model knows no classes, or between two"
    )
    seeds: list[int | None] = Field(description="of each picture; null between two seeds")
    picture: ImageBytes | None = Field(None, description="PNG: all of them in a grid, row by row")
