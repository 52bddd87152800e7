"""Published models: `name@version` or `name@alias` to something that can be loaded, or one line that says
why not. Nothing is pickled, and nothing is used before its hash was checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock import catalog
from penstock.config import from_dict
from penstock.errors import ConfigError, ModelError, PenstockError, nearest
from penstock.registry.card import (
    ASSETS,
    RECORDS,
    UNREADABLE,
    WEIGHTS,
    Version,
    read_card,
    read_listed,
    verified_files,
)
from penstock.registry.card import folder_of as files_of
from penstock.registry.exports import exported, exports_of
from penstock.registry.fingerprint import weights_sha256
from penstock.registry.pointers import CANDIDATE, LIVE, Pointers, numbers, pointers, settle
from penstock.registry.publishing import demand_kind, demand_name, publish
from penstock.registry.tuning import Serving, tune, tunings
from penstock.store import Store, subfolders
from penstock.workload import NAME, Evaluator, Model, Schema, Workload, resolve

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "CANDIDATE",
    "LIVE",
    "Pointers",
    "Serving",
    "Version",
    "aliases",
    "demand_kind",
    "demand_name",
    "evaluator_of",
    "exported",
    "find",
    "load",
    "models",
    "names",
    "promote",
    "publish",
    "published_by",
    "records",
    "standing",
    "succeed",
    "tune",
    "verify",
    "weights_sha256",
    "withdraw",
    "workload_of",
]


def models(store: Store, name: str | None = None) -> list[Version]:
    """Every version of every model (or of `name`), by name and number. A version whose card is damaged
    is listed with its `fault`; its neighbours are unaffected."""
    found: list[Version] = []
    for folder in [folder_of(store, name)] if name is not None else folders(store):
        pointed: Mapping[str, int] = {}
        notes: Mapping[str, Mapping[int, Any]] = {}
        spoilt = ""
        try:
            pointed, notes = aliases(store, folder.name), notes_of(folder)
        except ModelError as error:
            spoilt = str(error)
        for number in numbers(folder):
            path, fault, card = folder / str(number), spoilt, UNREADABLE
            try:
                card = read_card(path, folder.name, number) | with_notes(notes, number)
            except ModelError as error:
                fault = str(error)
            found.append(Version(folder.name, number, path, card, names_of(number, pointed), fault))
    return found


def aliases(store: Store, name: str) -> dict[str, int]:
    """Alias -> version of model `name`."""
    return dict(standing(store, name).aliases)


def standing(store: Store, name: str) -> Pointers:
    """Everything that is decided about the versions of model `name`."""
    folder = folder_of(store, name)
    return pointers(folder, numbers(folder))


def names(store: Store) -> list[str]:
    """Every model that has a version."""
    return [folder.name for folder in folders(store)]


def find(store: Store, reference: str) -> Version:
    """The version that "name", "name@alias" or "name@3" means; without alias it is `live`. ModelError
    lists what there is. The card is checked, the weights are not (`load` does)."""
    name, at, which = reference.partition("@")
    folder = folder_of(store, name)
    versions = numbers(folder)
    # a number needs no aliases: a damaged alias file must not keep anyone from a version
    if which.isascii() and which.isdecimal():
        number = int(which)
        if number not in versions:
            raise ModelError(f"no version {number} of model {name}; {offer(folder)}")
        pointed = safely(folder)
    else:
        pointed = pointers(folder, versions).aliases
        alias = which if at else LIVE
        if alias not in pointed:
            raise ModelError(
                f"no version of model {name} is {alias!r}; {offer(folder)}; "
                f"say {name}@{versions[-1]}, or penstock promote {name} {versions[-1]} {alias or LIVE}"
            )
        number = pointed[alias]
    path = folder / str(number)
    card = read_card(path, name, number) | with_notes(notes_of(folder), number)
    return Version(name, number, path, card, names_of(number, pointed))


def load(store: Store, version: str | Version) -> Model[Any]:
    """The model behind a reference, every file checked against the card before a tensor is built.
    ModelError in one line when anything is missing, extra, altered, a link, or needs a workload that is
    not installed."""
    found = find(store, version) if isinstance(version, str) else version
    contents = verified_files(found)
    config, schema = config_of(found), schema_of(found)
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors

    try:
        weights = tensors(contents[WEIGHTS])
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"model {found.reference}: {WEIGHTS} holds no weights: {error}") from None
    return Model(found.name, found.version, config, schema, weights)


def records(version: Version) -> pa.Table:
    """The record of every test item, as scored when the version was published; checked against the card."""
    import pyarrow as pa

    listed = version.card["files"][RECORDS]
    raw = read_listed(files_of(version) / RECORDS, f"model {version.reference}", RECORDS, listed)
    return pa.ipc.open_file(raw).read_all()


def verify(version: Version) -> None:
    """ModelError in one line unless every file of the version is what its card says."""
    verified_files(version)


def promote(
    store: Store,
    name: str,
    version: int,
    alias: str = LIVE,
    share: float | None = None,
    force: bool = False,
) -> Version:
    """Move `alias` to `version`, atomically, after checking every hash; the version as it stands now.

    With `share`, above 0 and below 1, endpoints send that part of the requests to it, and make it live or
    withdraw it by what comes of them. With `force` they take it though it is worse or slower than what they
    serve.
    """
    if not NAME.fullmatch(alias) or alias.isdecimal():
        raise ModelError(f"{alias!r} cannot be an alias; use a word such as live or candidate")
    if share is not None and (alias != CANDIDATE or not 0 < share < 1):
        raise ModelError(f"a share is above 0 and below 1, and for {CANDIDATE}; not {share:g} for {alias}")
    found = find(store, f"{name}@{version}")
    verify(found)
    settle(found.path.parent, lambda now: now.moved(alias, version, share, force))
    return find(store, f"{name}@{version}")


def succeed(store: Store, name: str, version: int) -> None:
    """The candidate `version` is live from now on; nothing happens when another one is candidate."""
    settle(folder_of(store, name), lambda now: now.succeeded(version))


def withdraw(store: Store, name: str, alias: str, version: int, before: int | None, why: str) -> None:
    """Takes `version` out of the traffic of every endpoint; an `alias` at it goes back to `before`."""
    settle(folder_of(store, name), lambda now: now.taken_back(alias, version, before, why))


def published_by(store: Store, name: str, run: str) -> Version | None:
    """The newest version of model `name` that `run` published, if any: publishing twice is avoided by
    asking first."""
    if name not in names(store):
        return None
    mine = [version for version in models(store, name) if version.card.get("run") == run]
    return mine[-1] if mine else None


def workload_of(version: Version) -> Workload[Any]:
    """The installed workload a card names; only an entry point of exactly that value will do."""
    try:
        return catalog.find_reference(version.card["workload"], version.card["reference"])
    except PenstockError as error:
        raise ModelError(f"model {version.reference}: {error}") from error


def config_of(version: Version) -> Any:
    """The version's config as its workload's dataclass."""
    workload = workload_of(version)
    try:
        return from_dict(workload.config, version.card["config"])
    except (ConfigError, TypeError) as error:
        raise ModelError(
            f"model {version.reference} is of another version of {workload.name}: {error}; train it again"
        ) from None


def schema_of(version: Version) -> Schema:
    """Labels, fields and assets, the assets checked against the card."""
    where, prefix = f"model {version.reference}", f"{ASSETS}/"
    assets = {
        relative.removeprefix(prefix): read_listed(files_of(version) / relative, where, relative, entry)
        for relative, entry in version.card["files"].items()
        if relative.startswith(prefix)
    }
    stored = version.card["schema"]
    return Schema(tuple(stored["labels"]), stored["fields"], assets)


def evaluator_of(version: Version) -> Evaluator[Any, Any]:
    """The workload's evaluator as this version needs it."""
    evaluator: Evaluator[Any, Any] = resolve(workload_of(version).evaluator)(
        config_of(version), schema_of(version)
    )
    return evaluator


def notes_of(folder: Path) -> Mapping[str, Mapping[int, Any]]:
    """What was learned of the versions in `folder` since they were published, by its name in their cards."""
    return {"serving": tunings(folder), "exports": exports_of(folder)}


def with_notes(notes: Mapping[str, Mapping[int, Any]], number: int) -> dict[str, Any]:
    return {name: known.get(number) for name, known in notes.items()}


def folders(store: Store) -> list[Path]:
    found = [store.models / name for name in subfolders(store.models) if NAME.fullmatch(name)]
    return [folder for folder in found if numbers(folder)]


def folder_of(store: Store, name: str) -> Path:
    """The folder of a published model; a name that is none is never joined to a path."""
    if NAME.fullmatch(name) and numbers(store.models / name):
        return store.models / name
    known = [folder.name for folder in folders(store)]
    way_out = nearest(name, known) if known else "; none is published yet: penstock train WORKLOAD"
    raise ModelError(f"no model {name[:64]!r}{way_out}")


def names_of(number: int, pointed: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(alias for alias, version in pointed.items() if version == number)


def safely(folder: Path) -> Mapping[str, int]:
    try:
        return pointers(folder, numbers(folder)).aliases
    except ModelError:
        return {}


def offer(folder: Path) -> str:
    """`versions: 1 (live), 2`."""
    pointed = safely(folder)
    described = []
    for number in numbers(folder):
        names = names_of(number, pointed)
        described.append(f"{number} ({', '.join(names)})" if names else str(number))
    return f"versions: {', '.join(described)}"
