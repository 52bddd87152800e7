"""How a version is best served, as measured: beside the versions, which nobody changes once published, and
shown in their cards as `serving`.

models/<name>/serving.json  {"format": 1, "versions": {"3": {"batch": 8, …}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from penstock.errors import ModelError
from penstock.registry.card import FORMAT
from penstock.registry.pointers import LOCK
from penstock.store import current, lock, write_atomic

SERVING = "serving.json"
FASTER = ("channels_last", "bf16", "compile")
"""`channels_last`: the memory layout that convolutions like; `bf16`: matrix products in bfloat16
(torch.autocast); `compile`: torch.compile."""


@dataclass(frozen=True)
class Serving:
    """`batch`: most requests answered together; `batch_wait_s`: how long one waits for others; `threads`: of
    torch, in each replica; `replicas` to `most_replicas`: processes, as many as the load asks for; `faster`:
    how its networks are made faster (penstock.serving.faster); `p95_ms`: what was measured with it."""

    batch: int = 16
    batch_wait_s: float = 0.002
    threads: int = 1
    replicas: int = 1
    most_replicas: int = 1
    faster: tuple[str, ...] = ()
    p95_ms: float | None = None

    def __post_init__(self) -> None:
        whole = {"batch": 1024, "threads": 256, "replicas": 1024, "most_replicas": 1024}
        for name, most in whole.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise ModelError(f"serving.{name} = {value!r}: 1 to {most} is possible")
        if not 0 <= self.batch_wait_s <= 10:
            raise ModelError(f"serving.batch_wait_s = {self.batch_wait_s!r}: 0 to 10 seconds are possible")
        for way in self.faster:
            if way not in FASTER:
                raise ModelError(f"serving.faster = {way!r}: {', '.join(FASTER)} are possible")
        if self.most_replicas < self.replicas:
            raise ModelError(
                f"serving.most_replicas = {self.most_replicas}: fewer than serving.replicas = {self.replicas}"
            )

    def within(self, batch: int, replicas: int) -> Serving:
        """As an endpoint serves it that answers at most `batch` requests together and wants at least so many
        `replicas` of every model."""
        return replace(
            self,
            batch=min(batch, self.batch),
            replicas=max(replicas, self.replicas),
            most_replicas=max(replicas, self.most_replicas),
        )

    @classmethod
    def of(cls, card: Mapping[str, Any]) -> Serving:
        """What a card says; the defaults where it says nothing."""
        said = card.get("serving") or {}
        known = {field.name for field in fields(cls)}
        kept = {name: value for name, value in said.items() if name in known}
        return cls(**kept | {"faster": tuple(kept.get("faster", ()))})


def tunings(folder: Path) -> dict[int, dict[str, Any]]:
    """Version -> how it is served, of the model in `folder`."""
    try:
        stored = json.loads(current(folder / SERVING))
        return {int(number): dict(values) for number, values in stored["versions"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{SERVING} of model {folder.name} is damaged; delete it: penstock bench serve {folder.name} "
            "measures anew"
        ) from None


def tune(folder: Path, number: int, serving: Serving) -> None:
    """From now on version `number` of the model in `folder` is served like that."""
    with lock(folder / LOCK):
        known = tunings(folder) | {number: asdict(serving)}
        stored = {"format": FORMAT, "versions": {str(n): values for n, values in sorted(known.items())}}
        write_atomic(folder / SERVING, json.dumps(stored, indent=1).encode() + b"\n")
