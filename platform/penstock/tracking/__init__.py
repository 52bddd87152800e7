"""Trackers: what a run has logged, in TensorBoard or MLflow as well. Off unless asked for.

A tracker follows the run's own folder, beside training and only as far as a checkpoint has committed it, so
it neither changes a run nor can end one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from penstock.errors import PenstockError, nearest

KINDS = ("mlflow", "tensorboard")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")


@dataclass(frozen=True)
class Target:
    """A tracker that was asked for. `place`: a folder, or MLflow's URI; "": below the run's own folder."""

    kind: str
    place: str = ""

    @property
    def shown(self) -> str:
        """The place without user, password and query: fit for a log."""
        return without_secrets(self.place)


def targets(words: Sequence[str] | None) -> list[Target]:
    """`tensorboard[:DIR]` and `mlflow[:URI]`, each once; None: what PENSTOCK_TRACK names, commas between.

    PenstockError for an unknown tracker, a URI that MLflow cannot use, or an extra that is not installed.
    """
    if words is None:
        words = [word.strip() for word in os.environ.get("PENSTOCK_TRACK", "").split(",") if word.strip()]
    return list(dict.fromkeys(_target(word) for word in words))


def _target(word: str) -> Target:
    kind, _, place = word.partition(":")
    if kind not in KINDS:
        raise PenstockError(f"no tracker {kind!r}{nearest(kind, KINDS)}")
    needed = [kind]
    if kind == "tensorboard" and place:
        try:
            place = str(Path(place).expanduser())
        except RuntimeError:
            raise PenstockError(f"--track {word}: there is no such home folder") from None
    if kind == "mlflow":
        place = place or os.environ.get("MLFLOW_TRACKING_URI", "")
        scheme = place.partition(":")[0].partition("+")[0] if place else "sqlite"
        if scheme not in (*DATABASES, *SERVERS):
            raise PenstockError(
                f"--track mlflow:{without_secrets(place)}: write sqlite:///FILE, http://HOST:PORT or the URI "
                "of a database; MLflow has given up plain folders"
            )
        needed += ["sqlalchemy", "alembic"] if scheme in DATABASES else []
    missing = [module for module in needed if find_spec(module) is None]
    if missing:
        raise PenstockError(
            f"--track {kind}: {missing[0]} is not installed; pip install 'penstock[trackers]'"
        )
    return Target(kind, place)


def without_secrets(text: str) -> str:
    """`text` with no user, password or query in any URI that it holds."""
    text = re.sub(r"(://)(?!/)[^\s'\"]*@", r"\1", text)
    return re.sub(r"(://[^\s'\"?#]*)[?#][^\s'\"]*", r"\1", text)
