"""How a version is best served, as measured: shown in its card as `serving`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from penstock.errors import ModelError
from penstock.registry.beside import note, noted

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
    return noted(folder, SERVING, way_out(folder))


def tune(folder: Path, number: int, serving: Serving) -> None:
    """From now on version `number` of the model in `folder` is served like that."""
    note(folder, SERVING, way_out(folder), number, lambda known: asdict(serving))


def way_out(folder: Path) -> str:
    return f"penstock bench serve {folder.name} measures anew"
