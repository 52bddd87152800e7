"""Verbs that judge: evaluate, predict, compare, check, bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.options import Words, WorkloadName, local
from penstock.cli.shell import Shell, brings, interval, plain, verb
from penstock.errors import PenstockError, RunFailed, nearest

Reference = Annotated[
    str, typer.Argument(metavar="MODEL[@ALIAS]", help="A published model; without an alias the live one.")
]
Data = Annotated[str | None, typer.Option(metavar="SOURCE", help="Default: what the version was trained on.")]


@verb("evaluate pathology@1")
def evaluate(
    shell: Shell,
    model: Reference,
    data: Data = None,
    through: Annotated[
        str | None, typer.Option(metavar="URL", help="Send every item to this endpoint and compare.")
    ] = None,
) -> dict[str, Any]:
    """Metrics with 95 % intervals on the test split, offline or through the live endpoint."""
    from penstock.evaluation import evaluate as evaluate_model
    from penstock.store import Store

    result = dict(evaluate_model(model, data=data, through=through, store=Store.open(shell.store)))
    shell.say(f"{model}: {result['items']} items, with 95 % intervals")
    shell.table(["metric", "value"], [[name, interval(figure)] for name, figure in result["metrics"].items()])
    if through:
        seen = result["through"]
        shell.say(
            f"{through} answers as the model does offline: {seen['requests']} requests, "
            f"largest difference {seen['largest_difference']:.2g}"
        )
    return result


@verb("predict pathology@1 patch.jpg")
def predict(
    shell: Shell,
    model: Reference,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT…", help="Files, or a folder.")],
    output: Annotated[
        Path | None,
        typer.Option(parser=local, metavar="F", help="Write answers there; a folder's go to Parquet."),
    ] = None,
) -> dict[str, Any]:
    """Answers for files; a folder goes through Ray Data to Parquet."""
    from penstock.prediction import predict as predict_files
    from penstock.store import Store

    with shell.progress() as show:
        store = Store.open(shell.store)
        result = dict(predict_files(model, inputs, output=output, store=store, on_event=show))
    for answer in result.get("answers", ()):
        shell.say(json.dumps(plain(answer)))
    if "output" in result:
        shell.say(f"answers are in {result['output']}")
    return result


@verb("compare pathology@1 pathology@2")
def compare(
    shell: Shell,
    a: Annotated[str, typer.Argument(metavar="A", help="A published model.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    data: Data = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: the goal of the workload.")
    ] = None,
) -> dict[str, Any]:
    """Paired on the same items: is A better than B, worse, or can nobody tell?"""
    from penstock.evaluation import compare as compare_models
    from penstock.store import Store

    result = dict(compare_models(a, b, data=data, metric=metric, store=Store.open(shell.store)))
    shell.say(
        f"{a} against {b}: {result['verdict']}",
        f"{result['metric']} differs by {interval(result['difference'])}; {result['items']} items",
    )
    return result


@verb("check pathology")
def check(shell: Shell, workload: WorkloadName) -> dict[str, Any]:
    """The conformance test: does a workload keep the contract? For your own, too."""
    from penstock.api import check as check_workload

    checks = check_workload(workload)
    for each in checks:
        shell.say(
            f"{'passed' if each.passed else 'FAILED'}  {each.name}{f': {each.why}' if each.why else ''}"
        )
    failed = [each for each in checks if not each.passed]
    result = {
        "passed": [each.name for each in checks if each.passed],
        "failed": [{"check": each.name, "why": each.why} for each in failed],
    }
    if failed:
        shell.answer(result)
        raise RunFailed(f"{workload}: {len(failed)} of {len(checks)} checks failed; first: {failed[0].name}")
    shell.say(f"{workload} keeps the contract: {len(checks)} checks passed")
    return result


@verb("bench data pathology")
def bench(
    shell: Shell,
    what: Annotated[
        str,
        typer.Argument(
            metavar="data|train|serve|WORKLOAD",
            help="What to measure; some workloads bring a benchmark of their own.",
        ),
    ],
    workload: Annotated[
        str,
        typer.Argument(metavar="[WORKLOAD]", help="One of `penstock list`; with serve, a model."),
    ] = "pathology",
    words: Words = None,
    data: Annotated[str, typer.Option(metavar="SOURCE", help="`format:path`, or `synthetic`.")] = "synthetic",
    pairs: Annotated[int, typer.Option(min=1, help="How often both are measured, in turn.")] = 10,
    workers: Annotated[
        str,
        typer.Option(metavar="1,2", help="Of `train`: figures for each; with two, what the second brings."),
    ] = "2",
    gpus_per_worker: Annotated[float, typer.Option(min=0, help="Of `train`.")] = 0.0,
    p95: Annotated[
        str, typer.Option(metavar="50ms", help="Of `serve`: how soon 95 of 100 requests are answered.")
    ] = "50ms",
) -> dict[str, Any]:
    """Ratios against a named baseline, both measured in one run."""
    from penstock import benchmarks, catalog
    from penstock.store import Store

    if what == "serve":
        return benchmarks.serve(
            workload, p95_ms=milliseconds(p95), pairs=pairs, store=Store.open(shell.store), say=shell.say
        )
    if what not in ("data", "train"):
        raise PenstockError(no_benchmark(what))
    if "=" in workload:
        raise PenstockError(f"{workload!r} is no workload; write `penstock bench {what} WORKLOAD {workload}`")
    found, store = catalog.find(workload), Store.open(shell.store)
    common: dict[str, Any] = {"data": data, "overrides": words or (), "store": store, "say": shell.say}
    if what == "data":
        return dict(benchmarks.data(found, pairs=pairs, **common))
    return dict(
        benchmarks.train(
            found, pairs=pairs, workers=numbers(workers), gpus_per_worker=gpus_per_worker, **common
        )
    )


def milliseconds(text: str) -> float:
    """`50ms` or `0.05s` as 50.0; PenstockError for anything else."""
    number, factor = (text[:-2], 1.0) if text.endswith("ms") else (text.removesuffix("s"), 1000.0)
    try:
        value = float(number) * factor
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise PenstockError(f"--p95 {text!r} is no time; write 50ms or 0.5s")
    return value


def no_benchmark(what: str) -> str:
    """Why `penstock bench WHAT` is not possible so, and what is."""
    from penstock import catalog

    if brings(what, "bench"):
        return f"bench {what} takes its options last: penstock bench {what} --help"
    if what in catalog.installed():
        return f"{what} brings no benchmark of its own; say penstock bench data {what}, or bench train {what}"
    return f"no benchmark {what!r}{nearest(what, ['data', 'train', 'serve', *catalog.installed()])}"


def numbers(text: str) -> list[int]:
    """`1,2` -> [1, 2]; PenstockError for anything that is not numbers, each once."""
    parts = [part.strip() for part in text.split(",")]
    found = [int(part) for part in parts if part.isdecimal()]
    if len(found) < len(parts) or min(found) < 1 or len(set(found)) < len(found):
        raise PenstockError(f"--workers {text!r}: write numbers such as 1,2, each once")
    return found
