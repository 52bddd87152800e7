"""Boxes drawn over pictures, and the curves of the report."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from penstock.media import decode_image
from penstock.workload import Row
from workloads.detection.average_precision import Said

if TYPE_CHECKING:
    from penstock.report import Figure

COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Told apart by colour-blind people too (Okabe and Ito 2008); again from the first where labels are more."""
SHOWN_SCORE = 0.3  # of a box on the report's sheet
TILE = 420  # pixels, width of a picture on it
MOST_CURVES = 7


class Drawn(NamedTuple):
    """A box to draw: left, top, right, bottom in pixels, what to write, which colour."""

    box: Sequence[float]
    text: str
    colour: int


def with_boxes(picture: Image.Image, boxes: Sequence[Drawn]) -> Image.Image:
    """A copy of the picture with the boxes, the first of them on top."""
    picture = picture.copy()
    brush = ImageDraw.Draw(picture)
    width = max(1, round(min(picture.size) / 200))
    for box, _, colour in reversed(boxes):
        left, top, right, bottom = box
        # around the object, not over it: the smallest are a few pixels wide
        edges = (left - width, top - width, max(left, right) + width - 1, max(top, bottom) + width - 1)
        brush.rectangle(edges, outline=COLOURS[colour % len(COLOURS)], width=width)
    font = font_of(max(10, round(min(picture.size) / 32)))
    for box, text, colour in reversed(boxes):
        paint = COLOURS[colour % len(COLOURS)]
        _, _, wide, high = font.getbbox(text)
        x = min(max(0.0, box[0] - width), max(0.0, picture.width - wide - 4.0))
        above = box[1] - width - high - 2
        y = above if above >= 0 else max(0.0, min(box[3] + width, picture.height - high - 2.0))
        brush.rectangle((x, y, x + wide + 3, y + high + 1), fill=paint)
        dark = 0.299 * paint[0] + 0.587 * paint[1] + 0.114 * paint[2] < 110
        brush.text((x + 2, y), text, fill=(255, 255, 255) if dark else (0, 0, 0), font=font)
    return picture


@cache
def font_of(size: int) -> Any:
    return ImageFont.load_default(size)


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def sheet(rows: Sequence[Row], answers: Sequence[Said], labels: Sequence[str], columns: int = 3) -> bytes:
    """PNG of test pictures side by side: what is there in white, what was said in colour."""
    tiles = [tile(row, answer, labels) for row, answer in zip(rows, answers, strict=True)]
    columns = min(columns, len(tiles))
    high = max(one.height for one in tiles)
    page = Image.new("RGB", (columns * (TILE + 6) - 6, -(-len(tiles) // columns) * (high + 6) - 6), "white")
    for place, one in enumerate(tiles):
        page.paste(one, (place % columns * (TILE + 6), place // columns * (high + 6)))
    return png(page)


def tile(row: Row, answer: Said, labels: Sequence[str]) -> Image.Image:
    try:
        picture = decode_image(row["image"])
    except ValueError:
        return Image.new("RGB", (TILE, TILE // 2), "grey")
    scale = TILE / picture.width
    picture = picture.resize((TILE, max(1, round(scale * picture.height))), Image.Resampling.BILINEAR)
    brush = ImageDraw.Draw(picture)
    for box in row["boxes"][row["ignore"] == 0] * scale:
        brush.rectangle(box.tolist(), outline="white")
    sure = answer.scores >= SHOWN_SCORE
    return with_boxes(
        picture,
        [
            Drawn(box.tolist(), f"{labels[label]} {score:.2f}", int(label))
            for box, label, score in zip(
                answer.boxes[sure] * scale, answer.labels[sure], answer.scores[sure], strict=True
            )
        ],
    )


def curves_figure(curves: Mapping[str, tuple[float, Any, Any]]) -> Figure:
    """Precision over recall of each label: label -> (AP, recalls, precisions), the lowest first."""
    from penstock.report import Figure, draw

    chosen = sorted(curves.items(), key=lambda curve: curve[1][0])
    note = "" if len(chosen) <= MOST_CURVES else f"The {MOST_CURVES} lowest of {len(chosen)} labels."

    def paint(axes: Any) -> None:
        for label, (value, recall, precision) in chosen[:MOST_CURVES]:
            x = np.concatenate([[0.0], recall])
            y = np.concatenate([precision[:1] if len(precision) else [0.0], precision])
            axes.plot(x, y, linewidth=1.5, label=f"{label} ({value:.3f})")
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.set_aspect("equal")
        if chosen:
            axes.legend(fontsize=8, title="average precision", title_fontsize=8)

    figure = draw("Precision and recall at IoU 0.5", paint, height=4.0)
    return Figure(figure.title, svg=figure.svg, caption=note)


def sizes_figure(found: Mapping[str, float]) -> Figure:
    """Average precision by the objects' area; sizes that the test pictures lack are left out."""
    from penstock.report import draw

    known = {name: value for name, value in found.items() if value == value}

    def paint(axes: Any) -> None:
        bars = axes.barh(list(known), list(known.values()), height=0.6)
        axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
        axes.set(xlabel="average precision, IoU 0.50 to 0.95", xlim=(0, 1))
        axes.invert_yaxis()

    return draw("By size: up to 32 x 32 pixels, up to 96 x 96, larger", paint, height=1.9)
