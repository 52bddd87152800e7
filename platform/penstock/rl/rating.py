"""How strong a run's weights are beside its earlier ones, in Elo."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from penstock.store import discard_file, gathered, sweep, write_atomic
from penstock.training.run import Run

OPPONENTS = 2  # the newest past selves


class Ratings:
    """Past selves are kept in the run's folder `selves/`, `<step>.safetensors` with a `.elo` beside; the
    first one has 0."""

    def __init__(self, run: Run, agent: Any, step: int) -> None:
        """Those after `step`, which a resumed run has not reached yet, are forgotten."""
        self.run, self.agent, self.folder = run, agent, run.path / "selves"
        self.folder.mkdir(exist_ok=True)
        sweep(self.folder)  # a kill may have left half a file
        for path in list(gathered(self.folder).iterdir()):
            if path.stem.isdecimal() and int(path.stem) > step:
                discard_file(path)

    def rate(self, weights: Mapping[str, Tensor], step: int) -> dict[str, float]:
        """`elo` of `weights` by games against past selves, with a 95 % interval of these games alone."""
        steps = sorted(int(path.stem) for path in self.folder.glob("*.elo"))[-OPPONENTS:]
        past = [safetensors.torch.load_file(self.path(each)) for each in steps]
        found = self.agent.rate(weights, past, self.run.spec.seed + step)
        known = [float(self.path(each).with_suffix(".elo").read_text()) for each in steps]
        elo, low, high = 0.0, 0.0, 0.0
        if found:
            elo, low, high = estimate([(*one, base) for one, base in zip(found, known, strict=True)])
        write_atomic(self.path(step), safetensors.torch.save(dict(weights)))
        write_atomic(self.path(step).with_suffix(".elo"), repr(elo).encode())
        return {"elo": elo, "elo_low": low, "elo_high": high}

    def path(self, step: int) -> Path:
        return self.folder / f"{step:08d}.safetensors"


def estimate(results: list[tuple[float, int, float]]) -> tuple[float, float, float]:
    """The Elo that makes (share won, games, opponent's Elo) likeliest, with half a game lost and half a game
    won more against each, so that it is finite; and 95 % by the curvature there (Elo 1978: a player d ahead
    wins 1 / (1 + 10^(-d/400)) of the games)."""
    scale = math.log(10) / 400
    counts = [(share * games + 0.5, games + 1, base) for share, games, base in results]
    elo = sum(base for *_, base in counts) / len(counts)
    for _ in range(100):
        expected = [1 / (1 + 10 ** ((base - elo) / 400)) for *_, base in counts]
        slope = sum(won - games * e for (won, games, _), e in zip(counts, expected, strict=True))
        curve = sum(games * e * (1 - e) for (_, games, _), e in zip(counts, expected, strict=True))
        step = slope / max(curve, 1e-9) / scale
        elo += max(-200.0, min(200.0, step))
        if abs(step) < 1e-6:
            break
    spread = 1.96 / (scale * math.sqrt(max(curve, 1e-9)))
    return elo, elo - spread, elo + spread
