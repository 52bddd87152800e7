"""What a user did wrong, said in one line: the thing, its value and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PenstockError(Exception):
    """A user's mistake or a machine's limit; the CLI prints the one line and exits with 2."""


class ConfigError(PenstockError):
    """A setting that does not exist, or holds a value of the wrong type or range."""


class DataError(PenstockError):
    """Raw input or a prepared data set that cannot be used; names the file and the fault."""


class StoreError(PenstockError):
    """The store cannot be read or written: full, read-only, damaged."""


class Damaged(StoreError):
    """Something in the store is not what was written there."""


class ModelError(PenstockError):
    """A model, version or alias that is unknown, damaged or refused."""


class RunError(PenstockError):
    """A run that cannot start: its name is taken, it is running already, it asks for too much."""


class RunFailed(Exception):
    """A run that started and failed; the CLI prints the cause in one line and exits with 1."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for a near miss, else `; known: a, b, c`."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(known)}" if known else ""
