"""The installed workloads: built-in and third-party ones enter by the same door, an entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from penstock.errors import PenstockError, nearest
from penstock.workload import NAME, Workload

GROUP = "penstock.workloads"


def installed() -> dict[str, EntryPoint]:
    """CLI word -> entry point, sorted; nothing is imported."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    return dict(sorted(found.items()))


def find(name: str) -> Workload[Any]:
    """The workload called `name`; PenstockError lists the known ones."""
    points = installed()
    if name not in points:
        raise PenstockError(f"no workload {name!r}{nearest(name, points)}")
    try:
        workload = points[name].load()
    except (ImportError, AttributeError) as error:
        where = points[name].value
        raise PenstockError(f"workload {name!r} ({where}) cannot be imported: {error}") from error
    if not isinstance(workload, Workload) or workload.name != name or not NAME.fullmatch(name):
        raise PenstockError(
            f"entry point {name!r} ({points[name].value}) must be a Workload named {name!r}; "
            f"found {workload!r:.80}"
        )
    return workload


def reference(name: str) -> str:
    """The entry point's value, as a model's card keeps it: "workloads.speech:workload"."""
    find(name)
    return installed()[name].value


def find_reference(name: str, value: str) -> Workload[Any]:
    """The workload a card names, only if an installed entry point has exactly that value: a card
    from elsewhere must not choose what is imported."""
    points = installed()
    if name not in points or points[name].value != value:
        raise PenstockError(
            f"the card names workload {name!r} ({value}), which is not installed; pip install its package"
        )
    return find(name)
