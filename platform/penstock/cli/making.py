"""Verbs that make things: new, prepare, train."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock import catalog
from penstock.cli.shell import Shell, interval, verb
from penstock.errors import PenstockError, nearest

WorkloadName = Annotated[str, typer.Argument(metavar="WORKLOAD", help="One of `penstock list`.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.SUB=VALUE]…", help="Settings, such as optim.lr=3e-4; values are read as TOML."),
]
Bad = Annotated[int, typer.Option("--skip-bad", min=0, metavar="N", help="Leave out up to N bad items, and list them.")]


@verb("new flowers")
def new(
    shell: Shell,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new workload's name.")],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Where its folder goes.")] = Path(),
) -> dict[str, Any]:
    """Write a small workload that runs, to start from: a package of its own with an entry point."""
    from penstock.templates import write_package

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
    preset: Annotated[str | None, typer.Option("--preset", metavar="P", help="Settings to start from.")] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="F.toml", help="Settings from a file.")] = None,
    skip_bad: Bad = 0,
) -> dict[str, Any]:
    """Raw files -> Arrow shards, every item checked. A second time does nothing."""
    from penstock import prepare as prepare_dataset

    with shell.progress() as show:
        dataset = prepare_dataset(
            workload,
            source,
            preset=preset,
            config_file=config,
            overrides=words or (),
            skip_bad=skip_bad,
            store=shell.store,
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


@verb("train pathology --preset smoke", stopped="stopped; the same command goes on from the newest checkpoint")
def train(
    shell: Shell,
    workload: WorkloadName,
    words: Words = None,
    data: Annotated[str | None, typer.Option(metavar="SOURCE", help="`format:path`. [default: synthetic]")] = None,
    preset: Annotated[str | None, typer.Option(metavar="P", help="Settings to start from.")] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="F.toml", help="Settings from a file.")] = None,
    workers: Annotated[
        str | None, typer.Option(metavar="N or A:B", help="[default: one per GPU, else one per core up to 4]")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each worker.")] = 1,
    cpus: Annotated[int | None, typer.Option(min=1, help="Logical CPUs of a local Ray.")] = None,
    gpus_per_worker: Annotated[float | None, typer.Option(min=0, help="[default: 1 where there are GPUs]")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and every random draw.")] = 0,
    name: Annotated[str | None, typer.Option(metavar="RUN", help="[default: workload and a hash of it all]")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier run of that name.")] = False,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Name to publish under. [the workload's]")] = None,
    start_from: Annotated[str | None, typer.Option(metavar="MODEL@VERSION", help="Start from its weights.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Make it live, unless it is worse than what is.")] = False,
    skip_bad: Bad = 0,
) -> dict[str, Any]:
    """Prepare if needed, train, evaluate on the test split, publish a version.

    The same command again goes on where an earlier one was stopped, and a finished run trains nothing.
    """
    checked(workload, preset, config, words or ())
    from penstock.experiment import train as train_workload
    from penstock.store import Store

    if data is None:
        shell.say("data: synthetic (--data SOURCE names your own)")
    with shell.progress() as show:
        result = train_workload(
            workload,
            data=data,
            preset=preset,
            config_file=config,
            overrides=words or (),
            workers=how_many(workers),
            threads=threads,
            cpus=cpus,
            gpus_per_worker=gpus_per_worker,
            seed=seed,
            name=name,
            fresh=fresh,
            model=model,
            start_from=start_from,
            promote=promote,
            store=Store.open(shell.store),
            skip_bad=skip_bad,
            on_event=show,
        ).to_json()
    made = dict(result)
    shell.say(*summary(made))
    return made | {"command": shlex.join(["penstock", *sys.argv[1:]])}


def checked(workload: str, preset: str | None, config: Path | None, words: tuple[str, ...] | list[str]) -> Any:
    """The config these words make; errors in it come before anything heavy is imported."""
    from penstock.config import build

    found = catalog.find(workload)
    if preset is not None and preset not in found.presets:
        raise PenstockError(f"{workload} has no preset {preset!r}{nearest(preset, found.presets)}")
    return build(found.config, found.presets[preset or "default"], config, words)


def how_many(text: str | None) -> int | tuple[int, int] | None:
    """`--workers`: "4" -> 4, "2:8" -> (2, 8)."""
    if text is None:
        return None
    low, colon, high = text.partition(":")
    if not low.isdecimal() or (colon and not high.isdecimal()) or int(low) < 1 or (colon and int(high) < int(low)):
        raise PenstockError(f"--workers {text!r}: write a number such as 2, or a range such as 2:8")
    return (int(low), int(high)) if colon else int(low)


def summary(result: dict[str, Any]) -> list[str]:
    """What a finished run made, and the next commands to type."""
    model, version = result.get("model"), result.get("version")
    alias = ", ".join(result.get("aliases", ())) or "candidate"
    figures = [f"  {name:<14} {interval(figure)}" for name, figure in (result.get("metrics") or {}).items()]
    live = "live" in alias
    return [
        f"run {result.get('run')} published {model}@{version} ({alias}). On the test split, with 95 % intervals:",
        *figures,
        f"Next: penstock report {result.get('run')}",
        *([] if live else [f"      penstock promote {model} {version} live"]),
        f"      penstock serve {model if live else f'{model}@{version}'}",
    ]
