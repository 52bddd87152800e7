"""What a run drew after each validation: the last picture, and all of them in motion."""

from __future__ import annotations

import io
from pathlib import Path

from penstock.report.figures import Figure, picture_figure

MOST_FRAMES = 40
FRAME_MS = 300
LAST_MS = 2000


def snapshot_figures(folder: Path) -> list[Figure]:
    """The newest of a run's snapshots (`<step>.png`), and with two or more an animation of at most
    MOST_FRAMES of them; nothing where the run drew none."""
    files = sorted(folder.glob("*.png"))
    if not files:
        return []
    step = int(files[-1].stem)
    figures = [picture_figure(f"Drawn after step {step}", files[-1].read_bytes())]
    if len(files) > 1:
        caption = f"{min(len(files), MOST_FRAMES)} pictures, from step {int(files[0].stem)} to {step}"
        figures.append(picture_figure("Drawn as training went on", animation(files), caption))
    return figures


def animation(files: list[Path]) -> bytes:
    """An animated PNG of the pictures, evenly chosen, the last one always among them."""
    from PIL import Image

    shown = min(len(files), MOST_FRAMES)
    chosen = [files[-1 - round(i * (len(files) - 1) / max(shown - 1, 1))] for i in reversed(range(shown))]
    frames = []
    for file in chosen:
        with Image.open(file, formats=("PNG",)) as picture:
            frames.append(picture.convert("RGB"))
    out = io.BytesIO()
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return out.getvalue()
