"""What a client sends and gets. Light enough for the command line to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from penstock.media import ImageBytes, WantsPicture, example_png

MOST_BOXES = 300


def road(width: int = 64, height: int = 40) -> str:
    """A red car on a grey road under a pale sky, as base64 of PNG."""
    sky, road, line = b"\xb8\xcc\xdc", b"\x60\x60\x64", b"\xe0\xe0\xd8"
    lines = [[sky if y < height // 2 else road for _ in range(width)] for y in range(height)]
    for y in range(height // 2, height, 6):
        lines[y][width // 2] = line
    shapes = [((20, 22, 44, 30), b"\xc0\x28\x28"), ((25, 16, 39, 22), b"\xc0\x28\x28")]
    shapes += [((27, 17, 37, 22), b"\x30\x38\x48"), ((21, 30, 25, 33), b"\x10\x10\x10")]
    shapes += [((39, 30, 43, 33), b"\x10\x10\x10")]
    for (left, top, right, bottom), colour in shapes:
        for y in range(top, bottom):
            lines[y][left:right] = [colour] * (right - left)
    return example_png([b"".join(line) for line in lines])


class DetectionRequest(BaseModel):
    """A picture to look for objects in."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"image": road()}]})

    image: ImageBytes = Field(description="JPEG or PNG; base64 in JSON")
    min_score: float = Field(0.05, ge=0, le=1, description="boxes with a lower score are left out")
    max_boxes: int = Field(100, ge=1, le=MOST_BOXES, description="at most so many boxes, the surest first")
    picture: WantsPicture = Field(False, description="whether to send the picture with the boxes drawn")


class Box(BaseModel):
    """One object that was found."""

    label: str = Field(description="what it is")
    score: float = Field(description="how sure that is, 0 to 1")
    box: list[float] = Field(
        min_length=4,
        max_length=4,
        description="left, top, right and bottom edge in pixels of the upright picture",
    )


class DetectionAnswer(BaseModel):
    """The objects in the picture."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "boxes": [{"label": "car", "score": 0.91, "box": [20.1, 15.8, 44.2, 33.0]}],
                    "width": 64,
                    "height": 40,
                    "picture": None,
                }
            ]
        }
    )

    boxes: list[Box] = Field(description="by falling score")
    width: int = Field(description="of the upright picture, pixels")
    height: int = Field(description="of the upright picture, pixels")
    picture: ImageBytes | None = Field(None, description="PNG: the picture with its surer boxes drawn")
