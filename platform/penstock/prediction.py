"""Answers for files: some at once, or a whole folder through Ray Data. The Predictor is the one that
validation, evaluation and the endpoint use."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from penstock import registry
from penstock.capacity import watched
from penstock.data.ray_map import quiet
from penstock.errors import DataError, PenstockError
from penstock.media import media_fields
from penstock.registry import Version
from penstock.store import Store, write_atomic
from penstock.training.events import OnEvent
from penstock.workload import Model, Predictor, Refusal, resolve

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = {"image/jpeg": (".jpg", ".jpeg"), "image/png": (".png",), "audio/wav": (".wav",)}
BATCH = 32
MOST_WORKERS = 4  # each holds the model


def predict(
    reference: str,
    inputs: str | Path | Sequence[str | Path],
    *,
    output: str | Path | None = None,
    store: Store | None = None,
    on_event: OnEvent = lambda event: None,
) -> dict[str, Any]:
    """What the model says of files, or of every file in a folder.

    Files: {"model", "version", "answers": [{"input", "answer" or "refused"}]}, in order, also written to
    `output` as JSON where that is given. A folder: its answers go to a Parquet table, one row a file by
    name, and the result is {"model", "version", "output", "items", "refused"}. A file is what the model's
    requests carry (a picture, a sound), or a request as .json. PenstockError names a file that is neither.
    `on_event`: told `{"event": "waiting", "for": why}` where a folder's workers find no place.
    """
    store = store or Store.open()
    version = registry.find(store, reference)
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    if not paths:
        raise PenstockError("no input; name files, or a folder")
    for path in paths:
        if not path.exists():
            raise DataError(f"no file or folder {str(path)!r}")
    named: dict[str, Any] = {"model": version.name, "version": version.version}
    if any(path.is_dir() for path in paths):
        if len(paths) > 1:
            raise PenstockError("name one folder, or files; a folder's answers fill a table of their own")
        return named | folder_answers(store, version, paths[0], output, on_event)
    request = registry.workload_of(version).request
    requests = [request_of(request, path) for path in paths]
    predictor = Answering(store.url, version.reference)
    answers: list[dict[str, Any]] = []
    for start in range(0, len(paths), BATCH):
        stop = start + BATCH
        for path, answer in zip(paths[start:stop], predictor.ask(requests[start:stop]), strict=True):
            answers.append({"input": str(path), **as_json(answer)})
    if output is not None:
        write_atomic(Path(output), json.dumps(answers, indent=1).encode() + b"\n")
        return named | {"answers": answers, "output": str(output)}
    return named | {"answers": answers}


def request_of(request: type[BaseModel], path: Path) -> BaseModel:
    """A file as a request: JSON as it stands, bytes in the first field that takes their kind. DataError
    names a file that no field takes."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    try:
        if path.suffix.lower() == ".json":
            return request.model_validate_json(raw)
        for name in fields_for(request, path.suffix.lower()):
            return request.model_validate({name: raw})
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None
    raise DataError(f"{path}: the model takes {', '.join(suffixes(request))}")


def fields_for(request: type[BaseModel], suffix: str) -> list[str]:
    return [
        name
        for name, media in media_fields(request).items()
        if any(suffix in SUFFIXES.get(kind, ()) for kind in media.types)
    ]


def suffixes(request: type[BaseModel]) -> list[str]:
    """What a file may end with to be a request of this type."""
    kinds = {kind for media in media_fields(request).values() for kind in media.types}
    return [*sorted(suffix for kind in kinds for suffix in SUFFIXES.get(kind, ())), ".json"]


def as_json(answer: BaseModel | Refusal) -> dict[str, Any]:
    if isinstance(answer, Refusal):
        return {"refused": answer.detail}
    return {"answer": answer.model_dump(mode="json")}


# ---------------------------------------------------------------- a folder


def folder_answers(
    store: Store, version: Version, folder: Path, output: str | Path | None, tell: OnEvent
) -> dict[str, Any]:
    """Every usable file below `folder`, answered by Ray Data workers that each hold the model."""
    request = registry.workload_of(version).request
    usable = suffixes(request)
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in usable)
    if not found:
        raise DataError(f"folder {str(folder)!r} holds no {', '.join(usable)}")
    registry.load(store, version)  # a damaged model is said here in one line, not by each worker
    rows = [{"item": path.relative_to(folder).as_posix(), "path": str(path.absolute())} for path in found]
    with watched(tell):
        answers = sorted(answer_all(store, version, rows), key=lambda row: str(row["item"]))
    path = Path(output or f"{folder.resolve().name}-{version.reference}.parquet")
    write_table(path, table(registry.workload_of(version).answer, answers))
    refused = sum(bool(row["refused"]) for row in answers)
    return {"output": str(path), "items": len(answers), "refused": refused}


def answer_all(store: Store, version: Version, rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """{"item", "answer" (JSON text), "refused"} for each row, in any order; one of the two is ""."""
    from penstock.cluster import available_cpus, ensure_ray

    ensure_ray()
    import ray.data

    batches = -(-len(rows) // BATCH)
    workers = max(1, min(MOST_WORKERS, available_cpus() - 1, batches))
    data = ray.data.from_items(rows, override_num_blocks=batches).map_batches(
        answer_batch,
        fn_kwargs={"root": store.url, "reference": version.reference},
        batch_size=BATCH,
        compute=ray.data.TaskPoolStrategy(size=workers),
    )
    data.context.enable_progress_bars = False
    data.context.print_on_execution_start = False
    with quiet():
        return [dict(row) for row in data.iter_rows()]


class Answering:
    """A loaded model that answers requests and files."""

    def __init__(self, root: str, reference: str) -> None:
        store = Store.open(root)
        version = registry.find(store, reference)
        workload = registry.workload_of(version)
        model: Model[Any] = registry.load(store, version)
        self.request = workload.request
        self.predictor: Predictor[Any, Any] = resolve(workload.predictor)(model, "cpu")

    def ask(self, requests: Sequence[BaseModel]) -> Sequence[Any]:
        """Answers and Refusals in order."""
        return self.predictor.predict(requests)

    def answer_files(self, paths: Sequence[Path]) -> list[Any]:
        """An answer or a Refusal for each file, in order; one bad file never spoils its neighbours."""
        outcomes: list[Any] = []
        for path in paths:
            try:
                outcomes.append(request_of(self.request, path))
            except DataError as error:
                outcomes.append(Refusal(str(error)))
        asked = [i for i, outcome in enumerate(outcomes) if not isinstance(outcome, Refusal)]
        for i, answer in zip(asked, self.ask([outcomes[i] for i in asked]) if asked else (), strict=True):
            outcomes[i] = answer
        return outcomes


# a process of Ray's answers many batches: it loads the model for the first
loaded = functools.lru_cache(maxsize=1)(Answering)


def answer_batch(batch: Mapping[str, Any], root: str, reference: str) -> dict[str, Any]:
    """What a worker of Ray Data does: {"item", "path"} [n] -> {"item", "answer", "refused"} [n]."""
    outcomes = loaded(root, reference).answer_files([Path(str(path)) for path in batch["path"]])
    made = [as_json(outcome) for outcome in outcomes]
    return {
        "item": [str(item) for item in batch["item"]],
        "answer": [json.dumps(each["answer"]) if "answer" in each else "" for each in made],
        "refused": [each.get("refused", "") for each in made],
    }


def table(answer: type[BaseModel], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Columns `item`, one per field of the answer, `refused`. Words, numbers and truth values are columns
    of their own type; anything deeper is JSON text."""
    import pyarrow as pa

    columns: dict[str, Any] = {"item": [row["item"] for row in rows]}
    answers = [json.loads(row["answer"]) if row["answer"] else None for row in rows]
    for name in answer.model_fields:
        values = [each[name] if each is not None else None for each in answers]
        if any(isinstance(value, dict | list) for value in values):
            values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
        columns[name] = values
    columns["refused"] = pa.array([row["refused"] or None for row in rows], pa.string())
    return pa.table(columns)


def write_table(path: Path, answers: pa.Table) -> None:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(answers, buffer)
    write_atomic(path, buffer.getvalue())
