"""What a search is asked for: checked before anything is done, and kept beside its ledger."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.config import build, read_toml, spelled, to_dict
from penstock.errors import ConfigError, PenstockError, RunError, nearest
from penstock.store import Store, fetched, in_bucket, listed, publish_folder
from penstock.training.run import RunSpec, flat
from penstock.tuning import model_based, space
from penstock.workload import NAME, Workload

SCHEDULERS = ("asha", "pbt", "none")
SEARCHERS = ("random", "optuna", "grid")
FORMAT = 1
LONGEST = 48
"""Characters of a search's name: its runs are called after it."""
FILE = "search.json"


@dataclass(frozen=True)
class Asked:
    """`spec`: of every trial, before its own settings; `ranges`: each as text. The number of trials is
    not part of it: a search may be continued with more."""

    spec: RunSpec
    ranges: Mapping[str, str]
    scheduler: str
    searcher: str

    def differences(self, other: Asked) -> list[str]:
        """`setting (here, now there)` for all that differs."""
        ours, theirs = (flat(_plain(one, means=False)) for one in (self, other))
        names = dict.fromkeys([*ours, *theirs])
        shown = {name: name.removeprefix("spec.").removeprefix("config.") for name in names}
        return [
            f"{shown[name]} ({ours.get(name)!r}, now {theirs.get(name)!r})"
            for name in names
            if ours.get(name) != theirs.get(name)
        ]


def wanted(
    workload: Workload[Any],
    scheduler: str,
    searcher: str,
    preset: str | None,
    config_file: Path | None,
    words: Sequence[str],
) -> tuple[dict[str, Any], Any]:
    """The space and what all trials share; PenstockError names what cannot be. Nothing heavy is imported."""
    for flag, value, known in (("--scheduler", scheduler, SCHEDULERS), ("--searcher", searcher, SEARCHERS)):
        if value not in known:
            raise PenstockError(f"{flag} {value!r}: no such one{nearest(value, known)}")
    if preset is not None and preset not in workload.presets:
        raise PenstockError(f"{workload.name} has no preset {preset!r}{nearest(preset, workload.presets)}")
    ranges, fixed = space.split_words(words)
    config = build(workload.config, workload.presets[preset or "default"], config_file, fixed)
    if not ranges:
        held = {word.partition("=")[0].strip() for word in fixed}
        held |= set(spelled(read_toml(config_file))) if config_file else set()
        own = {key: value for key, value in workload.space.items() if key not in held}
        ranges = space.fitting(own, workload.config, to_dict(config))
    space.check(ranges, workload.config, to_dict(config))
    lengths = {"train.epochs", "train.validate_every"}
    for key in ranges:
        if key.startswith("data.") or key == "trainer":
            raise ConfigError(
                f"{key}: a search compares trials on one data set and one trainer; give one value"
            )
        if scheduler != "none" and key in lengths:
            raise ConfigError(
                f"{key}: {scheduler} compares trials of one length; give one value, or --scheduler none"
            )
    if scheduler == "pbt" and config.train.patience:
        raise ConfigError(
            f"train.patience = {config.train.patience}: pbt gives every trial the whole length; set 0"
        )
    if searcher == "grid":
        space.grid(ranges, 0)
    elif searcher == "optuna":
        model_based.demand_optuna()
    return ranges, config


def default_name(asked: Asked) -> str:
    """The workload, how it is searched, and a hash of all that decides it."""
    facts = json.dumps([asdict(asked.spec) | {"workers": 0}, asked.ranges, asked.searcher], sort_keys=True)
    digest = hashlib.sha256(facts.encode()).hexdigest()[:8]
    return f"{asked.spec.workload[:30]}-{asked.scheduler.replace('none', 'search')}-{digest}"


def keep(store: Store, name: str, asked: Asked) -> Path:
    """The folder of the search `name`, made if there is none; RunError names the settings that differ from
    those it was begun with."""
    check_name(name)
    folder = store.searches / name
    if name not in listed(store.searches):
        facts = {"format": FORMAT, "identity": secrets.token_hex(8), "asked": _plain(asked)}
        with suppress(FileExistsError), publish_folder(store.searches, name) as aside:
            (aside / FILE).write_text(json.dumps(facts, indent=1))
    different = read(store, name).differences(asked)
    if different:
        raise RunError(
            f"search {name!r} exists with other settings: {', '.join(different)}; "
            "choose another --name, or --fresh to start it anew"
        )
    return folder


def check_name(name: str) -> None:
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise RunError(f"search name {name!r}: up to {LONGEST} of a-z 0-9 . _ - from a letter or digit on")


def read(store: Store, name: str) -> Asked:
    """What the search `name` was begun with; RunError when there is none or it is damaged."""
    if name not in names(store):
        raise RunError(f"no search {name!r}{nearest(name, names(store))}")
    try:
        # whole, on this machine: what else is in there (ledger, lock) is found by it
        facts = json.loads((fetched(store.searches / name) / FILE).read_bytes())["asked"]
        return Asked(**facts | {"spec": RunSpec(**facts["spec"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"search {name!r}: {FILE} is damaged ({error}); use another --name") from None


def names(store: Store) -> list[str]:
    """The searches in a store, sorted."""
    found = listed(store.searches)
    if in_bucket(store.searches):
        return found
    return [name for name in found if (store.searches / name / FILE).is_file()]


def _plain(asked: Asked, means: bool = True) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(asked)))
    if not means:
        for name in RunSpec.MEANS:
            del values["spec"][name]
    return values
