"""The verb that searches: tune."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from penstock import catalog
from penstock.cli.live import Live
from penstock.cli.making import how_many, say_source, since_start_s, summary
from penstock.cli.options import Bad, Cpus, Data, File, Gpus, ModelName, Preset, Promote, WorkloadName
from penstock.cli.progress import short
from penstock.cli.shell import Shell, verb

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY.SUB=RANGE or VALUE]…",
        help="log(a,b), uniform(a,b), int(a,b) or choice(x,y,…) is searched; a value holds for all trials.",
    ),
]


@verb(
    "tune speech --preset smoke --trials 12 'optim.lr=log(1e-4,1e-1)' 'model.kind=choice(cnn,crnn)'",
    stopped="stopped; the same command (without --fresh) goes on from its ledger",
)
def tune(
    shell: Shell,
    workload: WorkloadName,
    words: Words = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Default: 10, or what the search had; grid: all of it.")
    ] = None,
    scheduler: Annotated[
        str, typer.Option(metavar="asha|pbt|none", help="What stops or moves trials.")
    ] = "asha",
    searcher: Annotated[
        str, typer.Option(metavar="random|optuna|grid", help="What suggests settings.")
    ] = "random",
    data: Data = None,
    preset: Preset = None,
    config: File = None,
    workers: Annotated[
        str | None, typer.Option(metavar="N", help="Of each trial; default: 1, in a process that it shares.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each worker; default: 1.")] = None,
    cpus: Cpus = None,
    gpus_per_worker: Gpus = None,
    seed: Annotated[int, typer.Option(help="Of suggestions, weights, order and every random draw.")] = 0,
    name: Annotated[
        str | None, typer.Option(metavar="SEARCH", help="Default: the workload and a hash of what is asked.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier search of that name.")] = False,
    model: ModelName = None,
    start_from: Annotated[
        str | None, typer.Option(metavar="MODEL@VERSION", help="Start every trial from its weights.")
    ] = None,
    promote: Promote = False,
    skip_bad: Bad = 0,
) -> dict[str, Any]:
    """Search for good settings, and publish the best model.

    The same command again goes on where an earlier one was stopped; with more --trials it goes further.
    """
    number = how_many(workers)
    from penstock.tuning.asked import wanted

    # errors come before anything heavy is imported
    ranges, settings = wanted(catalog.find(workload), scheduler, searcher, preset, config, words or ())
    from penstock.store import Store
    from penstock.tuning.space import as_text
    from penstock.tuning.tune import tune as search

    say_source(shell, workload, settings, data)
    shell.say("searching: " + " ".join(f"{key}={as_text(ranges[key])}" for key in ranges))
    with showing(shell) as show:
        result = search(
            workload,
            scheduler=scheduler,
            searcher=searcher,
            trials=trials,
            data=data,
            preset=preset,
            config_file=config,
            overrides=words or (),
            workers=number,
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
    best = result["best"]
    shell.say(
        f"search {result['search']}: best is trial {best['trial']}, {result['goal']} {short(best['metric'])}",
        *(f"  {key}={short(value)}" for key, value in best["config"].items()),
        *summary(result),
    )
    return result | {"seconds": since_start_s()}


@contextmanager
def showing(shell: Shell) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A table that lives, plain lines where there is no terminal, or JSON."""
    if shell.json:
        with shell.progress() as show:
            yield show
    else:
        with Live(shell.out) as live:
            yield live.show
