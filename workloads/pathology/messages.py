"""What a client sends and gets. Light enough for the command line to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from penstock.media import ImageBytes, WantsPicture, example_png

NOTE = "Research tool, not a medical device: not for diagnosis."


def tissue(side: int = 32) -> str:
    """A pink square with violet dots, as base64 of PNG."""
    dots = [[(x % 8 - 4) ** 2 + (y % 8 - 4) ** 2 < 7 for x in range(side)] for y in range(side)]
    return example_png([b"".join(b"\x60\x40\x90" if dot else b"\xe8\xa8\xc8" for dot in row) for row in dots])


class PathologyRequest(BaseModel):
    """A picture of stained tissue."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"image": tissue()}]})

    image: ImageBytes = Field(
        description="JPEG or PNG; base64 in JSON. Much larger than a patch: seen tile by tile"
    )
    heatmap: WantsPicture = Field(
        False, description="whether to paint what the answer rests on (Grad-CAM; of tiles, the map)"
    )


class TileMap(BaseModel):
    """One score per tile of a picture much larger than a patch."""

    label: str = Field(description="whose probability it shows")
    tile: int = Field(description="side of a tile in pixels of the picture")
    left: list[int] = Field(description="left edges of the columns, pixels")
    top: list[int] = Field(description="upper edges of the rows, pixels")
    scores: list[list[float]] = Field(description="probability of the label, row by row")


class PathologyAnswer(BaseModel):
    """What the picture looks like to the model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "label": "non_cancer",
                    "probabilities": {"cancer": 0.03, "non_cancer": 0.97},
                    "map": None,
                    "heatmap": None,
                    "note": NOTE,
                }
            ]
        }
    )

    label: str = Field(description="the most probable label")
    probabilities: dict[str, float] = Field(
        description="of every label; of a tiled picture, the mean of its tiles"
    )
    map: TileMap | None = Field(None, description="of a picture at least twice as large as a patch")
    heatmap: ImageBytes | None = Field(None, description="PNG: the picture, the greener the more it counts")
    note: str = NOTE
