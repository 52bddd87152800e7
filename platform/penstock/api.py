"""The verbs whose machinery wants more than a caller should have to bring: names become workloads, words a
config, and without a store it is the default one. The other verbs are exported as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock import catalog
from penstock.config import build
from penstock.errors import PenstockError, nearest
from penstock.store import Store

if TYPE_CHECKING:
    from penstock.data.dataset import Dataset
    from penstock.registry import Version
    from penstock.testing import Check


def workloads() -> list[str]:
    """The names of the installed workloads."""
    return list(catalog.installed())


def configure(
    workload: str, preset: str | None = None, config_file: Path | None = None, overrides: Sequence[str] = ()
) -> Any:
    """The workload's config: `preset` (default: "default"), then the file, then `key.sub=value` words.
    ConfigError names the setting; PenstockError the preset or workload that does not exist."""
    found = catalog.find(workload)
    if preset is not None and preset not in found.presets:
        raise PenstockError(f"{workload} has no preset {preset!r}{nearest(preset, found.presets)}")
    return build(found.config, found.presets[preset or "default"], config_file, overrides)


def prepare(
    workload: str,
    source: str,
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    skip_bad: int = 0,
    seed: int = 0,
    store: Store | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Dataset:
    """The data set `source` makes, on Ray Data; nothing is done when it was prepared before."""
    config = configure(workload, preset, config_file, overrides)
    from penstock.experiment import prepared

    tell = on_event or (lambda event: None)
    place = store or Store.open()
    return prepared(catalog.find(workload), source, config, place, skip_bad, None, tell, seed)


def models(name: str | None = None, *, store: Store | None = None) -> list[Version]:
    """The published versions of all models, or of one."""
    from penstock import registry

    return registry.models(store or Store.open(), name)


def promote(
    name: str,
    version: int,
    alias: str = "live",
    *,
    share: float | None = None,
    force: bool = False,
    store: Store | None = None,
) -> Version:
    """Point `alias` at a version, atomically; the version as it then is. Endpoints follow within a second or
    so of having loaded it.

    `live`, and a candidate's `share` of the requests (above 0, below 1), is only for what answers its own
    example and is not worse than what is live: PenstockError says why not. `force` skips the comparison.
    """
    from penstock import registry

    place = store or Store.open()
    if alias == registry.LIVE or share is not None:
        from penstock.serving.versions.gate import admit

        live = registry.aliases(place, name).get(registry.LIVE)
        new = registry.find(place, f"{name}@{version}")
        admit(place, new, registry.find(place, f"{name}@{live}") if live else None, force)
    return registry.promote(place, name, version, alias, share, force)


def runs(*, store: Store | None = None) -> list[dict[str, Any]]:
    """Every run of the store, how far it came, and what it waits for; the trials of a search are one row,
    with `trials`."""
    from penstock import experiment
    from penstock.tuning.asked import names
    from penstock.tuning.listing import searches

    place = store or Store.open()
    known = names(place)
    rows = experiment.runs(place)
    waits = {row["search"]: row["waits_for"] for row in rows if row["waits_for"]}
    alone = [{**row, "trials": None} for row in rows if row["search"] not in known]
    return alone + [{**row, "waits_for": waits.get(row["run"])} for row in searches(place)]


def check(workload: str) -> list[Check]:
    """The conformance test of an installed workload, in a store that is thrown away."""
    from tempfile import TemporaryDirectory

    from penstock.testing import check_workload

    with TemporaryDirectory(prefix="penstock-check-") as folder:
        return check_workload(catalog.find(workload), Store.open(folder))
