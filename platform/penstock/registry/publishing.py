"""Making a version: written aside, hashed, renamed into place; exactly one writer gets a number."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock import catalog
from penstock.config import to_dict
from penstock.errors import ModelError
from penstock.registry import fingerprint
from penstock.registry.card import ASSETS, CARD, FORMAT, RECORDS, WEIGHTS, Version, read_card, seal
from penstock.registry.pointers import CANDIDATE, LIVE, numbers, settle
from penstock.store import Store, publish_folder, sweep
from penstock.workload import NAME, Schema, Workload

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

ASSET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def publish(
    store: Store,
    name: str,
    workload: Workload[Any],
    config: Any,
    schema: Schema,
    weights: Mapping[str, torch.Tensor],
    *,
    metrics: Mapping[str, Mapping[str, float | None]],
    records: pa.Table,
    dataset_card: Mapping[str, Any],
    run: str,
    seed: int,
    trainer: str = "supervised",
    tags: Mapping[str, Any] | None = None,
    live_first: bool = True,
    version: int | None = None,
) -> Version:
    """The next version of model `name` (or exactly `version`), committed when this returns.

    The first version becomes `live` if `live_first`, any other one `candidate`. ModelError when `name`
    holds another workload's models or other labels, or when `version` exists already: of two writers of
    one number exactly one wins, and one that asked for no number takes the next.
    """
    demand_name(name)
    point = catalog.installed().get(workload.name)
    if point is None:
        raise ModelError(f"workload {workload.name!r} is not installed, so nobody could load its models")
    folder = store.models / name
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    contents = payload(schema, weights, records)
    card: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "workload": workload.name,
        "reference": point.value,
        "trainer": trainer,
        "schema": described(schema),
        "config": to_dict(config),
        "goal": {"metric": workload.goal.metric, "mode": workload.goal.mode},
        "metrics": {key: plain(value) for key, value in metrics.items()},
        "items": records.num_rows,
        "data": fingerprint.data(dataset_card),
        "code": fingerprint.code(point),
        "run": run,
        "seed": seed,
        "tags": dict(tags or {}),
        "weights_sha256": fingerprint.weights_sha256(weights),
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),  # for people
        "files": {
            relative: {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
            for relative, raw in sorted(contents.items())
        },
    }
    number = commit(folder, card, contents, live_first, version)
    aliases = settle(folder).aliases
    mine = tuple(alias for alias, pointed in aliases.items() if pointed == number)
    return Version(name, number, folder / str(number), read_card(folder / str(number), name, number), mine)


def commit(
    folder: Path,
    card: Mapping[str, Any],
    contents: Mapping[str, bytes],
    live_first: bool,
    version: int | None,
) -> int:
    """The number under which the version was renamed into place."""
    while True:
        versions = numbers(folder)
        check_same_kind(folder, versions, card["workload"], card["schema"])
        number = version if version is not None else max(versions, default=0) + 1
        first = LIVE if live_first and not versions else CANDIDATE
        try:
            with publish_folder(folder, str(number)) as aside:
                for relative, raw in contents.items():
                    (aside / relative).parent.mkdir(exist_ok=True)
                    (aside / relative).write_bytes(raw)
                (aside / CARD).write_bytes(seal({**card, "version": number, "first_alias": first}))
            return number
        except FileExistsError:
            if version is not None:
                raise ModelError(
                    f"model {folder.name}@{version} exists already; leave the number to get the next"
                ) from None


def demand_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ModelError(f"{name!r} cannot name a model; use a-z, 0-9, '.', '_', '-'; at most 64 characters")


def demand_kind(store: Store, name: str, workload: str, schema: Schema) -> None:
    """ModelError unless a model of `workload` and `schema` could be published as `name`; to be asked before
    anything is trained for it."""
    demand_name(name)
    folder = store.models / name
    check_same_kind(folder, numbers(folder), workload, described(schema))


def described(schema: Schema) -> dict[str, Any]:
    """A schema as a card has it."""
    return {"labels": list(schema.labels), "fields": dict(schema.fields)}


def check_same_kind(folder: Path, versions: list[int], workload: str, schema: Mapping[str, Any]) -> None:
    """Clients of a name rely on what its answers mean: refuse another workload, other labels or fields."""
    for number in reversed(versions):
        try:
            old = read_card(folder / str(number), folder.name, number)
        except ModelError:
            continue  # an older intact one tells as well what this name stands for
        way_out = f"; publish under another name: --model {folder.name}-2"
        if old["workload"] != workload:
            raise ModelError(f"model {folder.name} holds {old['workload']} models, not {workload}{way_out}")
        if old["schema"]["labels"] != schema["labels"]:
            raise ModelError(
                f"model {folder.name} has the labels {some(old['schema']['labels'])}, "
                f"not {some(schema['labels'])}{way_out}"
            )
        if old["schema"]["fields"].keys() != schema["fields"].keys():
            raise ModelError(f"model {folder.name} has another task schema than this one{way_out}")
        return


def payload(schema: Schema, weights: Mapping[str, torch.Tensor], records: pa.Table) -> dict[str, bytes]:
    """Every file of a version but the card: path in its folder -> bytes."""
    import pyarrow as pa
    from safetensors.torch import save

    for asset in schema.assets:
        if not ASSET.fullmatch(asset):
            raise ModelError(f"{asset!r} cannot name an asset; use letters, digits, '.', '_' and '-'")
    # cloned: safetensors refuses tensors that share memory, and tied weights do
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in weights.items()}
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, records.schema) as writer:
        writer.write_table(records)
    files = {WEIGHTS: save(tensors), RECORDS: buffer.getvalue()}
    return files | {f"{ASSETS}/{asset}": raw for asset, raw in schema.assets.items()}


def plain(metric: Mapping[str, float | None]) -> dict[str, float | None]:
    """A metric as JSON can hold it: null where undefined."""
    return {
        key: value if value is not None and math.isfinite(value) else None for key, value in metric.items()
    }


def some(labels: list[str]) -> str:
    text = json.dumps(labels, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:76]}…] ({len(labels)})"
