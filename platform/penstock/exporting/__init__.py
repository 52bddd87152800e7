"""The verb `export`: a published model as graphs for another runtime, with what is done before and after them
described, and kept only where it says what the model says.

<output>/export.json  model.onnx …  assets/<file> …
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock
from penstock import registry
from penstock.errors import DataError, ModelError, PenstockError, RunFailed
from penstock.graphs import Export
from penstock.store import Store, discard_folder, listed, publish_folder
from penstock.workload import Evaluator, Model, Workload, resolve

if TYPE_CHECKING:
    from penstock.registry import Version

__all__ = ["export"]

FORMAT = 1
DESCRIPTION = "export.json"
KINDS = {"onnx": ("onnx", "onnxruntime", "onnxscript")}
"""What can be exported to -> the packages that takes (the extra `export`)."""
ITEMS = 8
"""Test items whose answers are compared."""


def export(
    reference: str, *, to: str = "onnx", output: str | Path | None = None, store: Store | None = None
) -> dict[str, Any]:
    """A published model as a folder of graphs, at `output` (default: exports/<name>-<version>-onnx in the
    store, where an earlier one is replaced).

    onnxruntime has to give what torch gives, within 1e-4 absolute or relative, at several batch sizes, and
    the predictor's own answers have to be the same over the graphs: on items of the version's test split
    where its data is in the store, else on its example. RunFailed says where not, and nothing is kept.
    PenstockError: it cannot be exported, and why. What was measured is noted in the version's card. Keys:
    name, version, output, parity, files.
    """
    if to not in KINDS:
        raise PenstockError(f"--to {to}: no such format; {', '.join(KINDS)} is possible")
    missing = [package for package in KINDS[to] if importlib.util.find_spec(package) is None]
    if missing:
        raise PenstockError(f"exporting to {to} needs {', '.join(missing)}: pip install 'penstock[export]'")
    store = store or Store.open()
    version = registry.find(store, reference)
    workload = registry.workload_of(version)
    name = f"{version.name}-{version.version}-{to}"
    target = Path(output).expanduser().absolute() if output is not None else store.exports / name
    if output is not None and target.exists():
        raise PenstockError(f"--output {output}: exists already; name a new folder")
    try:
        if workload.exporter is None:
            raise PenstockError(f"workload {workload.name} does not say how its networks become graphs")
        contents, facts = exported(store, version, workload)
    except ModelError:
        raise
    except PenstockError as error:
        raise PenstockError(f"{version.reference} cannot be exported to {to}: {error}") from error
    except RunFailed as error:
        raise RunFailed(f"{version.reference} exported to {to} is not the model: {error}") from error
    files = {
        path: {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        for path, raw in sorted(contents.items())
    }
    described = json.dumps({**facts, "files": files}, indent=1, allow_nan=False).encode() + b"\n"
    if output is None:
        discard_folder(target)
    try:
        with publish_folder(target.parent, target.name) as folder:
            for path, raw in {**contents, DESCRIPTION: described}.items():
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_bytes(raw)
    except FileExistsError:
        raise PenstockError(f"{target} exists by now: another export was quicker") from None
    noted = {"output": str(target), "parity": facts["parity"], "files": files}
    registry.exported(version.path.parent, version.version, to, noted)
    return {"name": version.name, "version": version.version, **noted, "files": [*files, DESCRIPTION]}


def exported(
    store: Store, version: Version, workload: Workload[Any]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """(file -> what it holds, what export.json says of them)."""
    from penstock.exporting.onnx_graph import Session, to_onnx
    from penstock.exporting.parity import (
        BATCHES,
        TOLERANCE,
        Difference,
        answered,
        calls_of,
        compare_answers,
        compare_graph,
        example,
    )

    model = registry.load(store, version)
    ours, theirs = (resolve(workload.predictor)(model, "cpu") for _ in range(2))
    plan: Export = resolve(str(workload.exporter))(theirs)
    asked, source = requests(store, version, workload, model)
    asked = [plan.ask(request) for request in asked]
    wanted = answered(ours, asked)
    calls = calls_of(plan.graphs, lambda: answered(theirs, asked))
    contents: dict[str, bytes] = {}
    sessions: dict[str, Session] = {}
    apart: dict[str, Difference] = {}
    for name, graph in plan.graphs.items():
        graph.module.eval()  # what was put around a network has a mode of its own
        raw = to_onnx(graph, example(graph, calls[name]))
        sessions[name] = Session(graph, raw)
        contents[f"{name}.onnx"] = raw
        apart[name] = compare_graph(name, graph, sessions[name], calls[name])
        if apart[name].distance > TOLERANCE:
            raise RunFailed(f"graph {name!r} differs by {apart[name].distance:.2g}, more than {TOLERANCE:g}")
    for name, graph in plan.graphs.items():
        graph.module.forward = sessions[name]
    parity = {
        "tolerance": TOLERANCE,
        "items": source,
        "batches": list(BATCHES),
        "largest_difference": max(found.distance for found in apart.values()),
        "graphs": {name: found._asdict() for name, found in apart.items()},
        **compare_answers(wanted, answered(theirs, asked)),
    }
    contents |= {f"assets/{asset}": model.schema.assets[asset] for asset in plan.assets}
    return contents, description(version, plan, sessions, parity)


def requests(
    store: Store, version: Version, workload: Workload[Any], model: Model[Any]
) -> tuple[list[Any], str]:
    """What both are asked, and where it is from: some of the test split, else the workload's example."""
    from penstock.data.dataset import Dataset
    from penstock.evaluation.scoring import batches
    from penstock.serving.example import example

    folder = store.datasets / str(version.card["data"]["id"])
    if folder.name in listed(store.datasets):
        try:
            rows = Dataset.load(folder).test
        except DataError:
            rows = None
        if rows is not None and len(rows):
            evaluator: Evaluator[Any, Any] = resolve(workload.evaluator)(model.config, model.schema)
            return list(evaluator.requests(next(iter(batches(rows, ITEMS))))), "test split"
    return [workload.request.model_validate(example(workload.request))] * 4, "example"


def description(
    version: Version, plan: Export, sessions: Mapping[str, Any], parity: Mapping[str, Any]
) -> dict[str, Any]:
    """export.json without its list of files."""
    card = version.card
    return {
        "format": FORMAT,
        "to": "onnx",
        "model": version.name,
        "version": version.version,
        "workload": card["workload"],
        "weights_sha256": card["weights_sha256"],
        "licence": card["data"].get("licence", "unknown"),
        "labels": card["schema"]["labels"],
        "graphs": {
            name: {"file": f"{name}.onnx", **session.described()} for name, session in sessions.items()
        },
        "preprocessing": plan.preprocessing,
        "postprocessing": plan.postprocessing,
        "parity": dict(parity),
        "made_with": {
            "penstock": penstock.__version__,
            **{package: importlib.metadata.version(package) for package in ("torch", *KINDS["onnx"])},
        },
    }
