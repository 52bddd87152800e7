"""Verbs that make things: new, prepare, train."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock import agents, catalog
from penstock.api import configure
from penstock.cli.options import (
    Bad,
    Cpus,
    Data,
    File,
    Gpus,
    ModelName,
    Preset,
    Promote,
    Words,
    WorkloadName,
)
from penstock.cli.shell import Shell, interval, verb
from penstock.errors import PenstockError
from penstock.tracking import targets

Track = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TRACKER",
        help="tensorboard[:DIR] or mlflow[:URI]; may be repeated; default: PENSTOCK_TRACK, else none.",
    ),
]


@verb("new flowers")
def new(
    shell: Shell,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new workload's name.")],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Where its folder goes.")] = Path(),
) -> dict[str, Any]:
    """Write a small workload that runs, to start from: a package of its own with an entry point."""
    from penstock.templates import new as write_package

    path = write_package(name, into)
    shell.say(
        f"{path}: a workload that runs. Next:",
        f"  pip install --editable {shlex.quote(str(path))}",
        f"  penstock check {name}",
        f"  penstock train {name}",
    )
    return {"path": str(path)}


@verb("prepare pathology synthetic")
def prepare(
    shell: Shell,
    workload: WorkloadName,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="`format:path`, or `synthetic`.")],
    words: Words = None,
    preset: Preset = None,
    config: File = None,
    skip_bad: Bad = 0,
) -> dict[str, Any]:
    """Raw files -> Arrow shards, every item checked. A second time does nothing."""
    from penstock.api import prepare as prepare_dataset
    from penstock.store import Store

    with shell.progress() as show:
        dataset = prepare_dataset(
            workload,
            source,
            preset=preset,
            config_file=config,
            overrides=words or (),
            skip_bad=skip_bad,
            store=Store.open(shell.store),
            on_event=show,
        )
    counts = dict(dataset.counts)
    skipped = list(dataset.card.get("skipped", ()))
    shell.say(
        f"data set {dataset.id}: " + ", ".join(f"{count} {split}" for split, count in counts.items()),
        *(f"skipped {bad.get('item')}: {bad.get('why')}" for bad in skipped),
        f"Next: penstock train {workload} --data {shlex.quote(source)}",
    )
    return {
        "dataset": dataset.id,
        "path": str(dataset.path),
        "items": sum(counts.values()),
        "counts": counts,
        "skipped": skipped,
    }


@verb(
    "train pathology --preset smoke",
    stopped="stopped; the same command (without --fresh) goes on from the newest checkpoint",
)
def train(
    shell: Shell,
    workload: WorkloadName,
    words: Words = None,
    data: Data = None,
    preset: Preset = None,
    config: File = None,
    workers: Annotated[
        str | None,
        typer.Option(metavar="N or A:B", help="Default: one per GPU, else one per core up to 4."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each worker; default: 1, or what the run had.")
    ] = None,
    cpus: Cpus = None,
    gpus_per_worker: Gpus = None,
    health_timeout: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Without a step for so long a worker hangs: 120."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and every random draw.")] = 0,
    name: Annotated[
        str | None, typer.Option(metavar="RUN", help="Default: the workload and a hash of what is asked.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier run of that name.")] = False,
    model: ModelName = None,
    start_from: Annotated[
        str | None, typer.Option(metavar="MODEL@VERSION", help="Start from its weights.")
    ] = None,
    promote: Promote = False,
    skip_bad: Bad = 0,
    track: Track = None,
) -> dict[str, Any]:
    """Prepare if needed, train, evaluate on the test split, publish a version.

    The same command again goes on where an earlier one was stopped, and a finished run trains nothing.
    """
    settings = configure(
        workload, preset, config, words or ()
    )  # errors come before anything heavy is imported
    number = how_many(workers)
    targets(track)
    from penstock.experiment import train as train_workload
    from penstock.store import Store

    say_source(shell, workload, settings, data)
    with shell.progress() as show:
        result = train_workload(
            workload,
            data=data,
            preset=preset,
            config_file=config,
            overrides=words or (),
            workers=number,
            threads=threads,
            cpus=cpus,
            gpus_per_worker=gpus_per_worker,
            health_timeout_s=health_timeout,
            seed=seed,
            name=name,
            fresh=fresh,
            model=model,
            start_from=start_from,
            promote=promote,
            store=Store.open(shell.store),
            skip_bad=skip_bad,
            track=track,
            on_event=show,
        ).to_json()
    shell.say(*summary(result))
    return result | {"seconds": since_start_s()}


def say_source(shell: Shell, workload: str, config: Any, data: str | None) -> None:
    """Where nobody has named the data that is learned from."""
    if data is None and agents.learns(catalog.find(workload), config) == "data":
        shell.say("data: synthetic (--data SOURCE names your own)")


def how_many(text: str | None) -> int | tuple[int, int] | None:
    """`--workers`: "4" -> 4, "2:8" -> (2, 8)."""
    if text is None:
        return None
    low, colon, high = text.partition(":")
    numbers = [int(part) for part in (low, *([high] if colon else [])) if part.isdecimal()]
    if len(numbers) != (2 if colon else 1) or numbers[0] < 1 or numbers[-1] < numbers[0]:
        raise PenstockError(f"--workers {text!r}: write a number such as 2, or a range such as 2:8")
    return (numbers[0], numbers[1]) if colon else numbers[0]


def since_start_s() -> float:
    """Seconds since this process was started."""
    import psutil

    return time.time() - float(psutil.Process().create_time())


def summary(result: Mapping[str, Any]) -> list[str]:
    """What a finished run made, and the next commands to type."""
    reference = f"{result['model']}@{result['version']}"
    live = "live" in result["aliases"]
    width = max(map(len, result["metrics"]), default=0)
    return [
        f"published {reference} ({', '.join(result['aliases']) or 'no alias'}); test split, 95 % intervals:",
        *(f"  {name:<{width}}  {interval(figure)}" for name, figure in result["metrics"].items()),
        f"report: {result['report']}",
        "Next: "
        + ("" if live else f"penstock promote {result['model']} {result['version']} live; ")
        + f"penstock serve {result['model'] if live else reference}",
    ]
