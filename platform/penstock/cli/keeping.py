"""Verbs about what there is: list, models, promote, runs, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.shell import Shell, interval, verb
from penstock.errors import PenstockError, nearest

if TYPE_CHECKING:
    from penstock.store import Store


@verb("list", name="list")
def list_workloads(shell: Shell) -> dict[str, Any]:
    """Workloads, the sources they read, their presets, the models trained."""
    from penstock import catalog
    from penstock.registry import models as published
    from penstock.store import Store

    versions = published(Store.open(shell.store))
    rows: list[dict[str, Any]] = []
    for name in catalog.installed():
        try:
            workload = catalog.find(name)
        except PenstockError as error:  # its neighbours are all right
            rows.append({"name": name, "summary": str(error)})
            continue
        rows.append(
            {
                "name": name,
                "summary": workload.summary,
                "sources": sorted(workload.sources),
                "presets": sorted(workload.presets),
                "trainers": list(workload.trainers),
                "verbs": [name] if workload.commands else [],
                "models": [f"{v.name}@{v.version}" for v in versions if v.card.get("workload") == name],
            }
        )
    for row in rows:
        shell.say(f"{row['name']}: {row['summary']}")
        for key in ("sources", "presets", "verbs", "models"):
            if row.get(key):
                shell.say(f"    {key:<8} {', '.join(row[key])}")
    if not rows:
        shell.say("no workload is installed; `penstock new NAME` writes one")
    return {"workloads": rows}


@verb("models pathology")
def models(
    shell: Shell,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only the versions of this model.")
    ] = None,
) -> dict[str, Any]:
    """Published versions with their aliases and metrics."""
    from penstock.registry import models as published
    from penstock.store import Store

    store = Store.open(shell.store)
    rows = [
        {
            "name": version.name,
            "version": version.version,
            "aliases": sorted(version.aliases),
            "workload": version.card["workload"],
            "goal": version.card["goal"],
            "metrics": version.card["metrics"],
            "data": version.card["data"],
            "run": version.card["run"],
            "weights_sha256": version.card["weights_sha256"],
            "exports": version.card.get("exports") or {},
            "fault": version.fault,
            "withdrawn": withdrawn(store, version.name).get(version.version, ""),
        }
        for version in published(store, name)
    ]
    if rows:
        shell.table(
            ["model", "aliases", "metric", "95 % interval", "data"],
            [
                [
                    f"{row['name']}@{row['version']}",
                    ", ".join(row["aliases"]) or "-",
                    metric_name(row["goal"]),
                    interval(row["metrics"].get(metric_name(row["goal"]), {})),
                    row["fault"] or row["withdrawn"] or row["data"].get("source", "?"),
                ]
                for row in rows
            ],
        )
    else:
        shell.say("no models yet; `penstock train WORKLOAD` publishes one")
    return {"models": rows}


@verb("promote pathology 2 live")
def promote(
    shell: Shell,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A published model.")],
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Its version.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as live, or candidate.")],
    share: Annotated[
        str | None,
        typer.Option(metavar="10%", help="Of the requests; endpoints raise it, or withdraw the candidate."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Though it is worse or slower than what is live.")
    ] = False,
    wait: Annotated[
        str | None, typer.Option(metavar="URL", help="Until the endpoint there serves it, or will not.")
    ] = None,
) -> dict[str, Any]:
    """Point an alias at a version, atomically. What serves the model follows, once the version has shown
    that it answers and is not worse."""
    from penstock.api import promote as move
    from penstock.registry import aliases
    from penstock.serving.following import demand_endpoint, until_served
    from penstock.store import Store

    store = Store.open(shell.store)
    if wait:
        demand_endpoint(wait)  # before anything is moved
    move(name, version, alias, share=fraction(share), force=force, store=store)
    shell.say(f"{name}@{alias} is version {version}" + (f", with {share} of the requests" if share else ""))
    if wait:
        until_served(wait, store, name, version, alias)
        shell.say(f"{wait} serves it")
    return {"model": name, "version": version, "alias": alias, "aliases": dict(aliases(store, name))}


def fraction(text: str | None) -> float | None:
    """`10%` or `0.1` as 0.1; PenstockError for anything else."""
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise PenstockError(f"--share {text!r} is no part of the requests; write 10%") from None
    if not 0 < value < 1:
        raise PenstockError(f"--share {text}: above 0% and below 100%; without --share it gets them all")
    return value


@verb("runs")
def runs(shell: Shell) -> dict[str, Any]:
    """What ran, how far it came, and what a run that waits is waiting for."""
    from penstock.api import runs as all_runs
    from penstock.store import Store

    rows = all_runs(store=Store.open(shell.store))
    if rows:
        keys = [key for key in rows[0] if key not in ("search", "waits_for")]  # the latter is too long
        shell.table(keys, [["-" if row[key] is None else row[key] for key in keys] for row in rows])
        for row in rows:
            if row["waits_for"]:
                shell.say(f"{row['run']} waits: {row['waits_for']}")
    else:
        shell.say("no runs yet; `penstock train WORKLOAD` makes one")
    return {"runs": rows}


@verb("report pathology-1a2b3c4d")
def report(
    shell: Shell,
    run: Annotated[str, typer.Argument(metavar="RUN", help="One of `penstock runs`, or a search.")],
) -> dict[str, Any]:
    """Write a run's page again, or a search's: one HTML file that opens offline."""
    from penstock import write_report
    from penstock.store import Store
    from penstock.training.run import names
    from penstock.tuning import asked, report

    store = Store.open(shell.store)
    trained, searches = names(store), asked.names(store)
    search = run not in trained and run in searches
    if not search and run not in trained:
        raise PenstockError(f"no run or search {run[:64]!r}{nearest(run, [*searches, *trained])}")
    path = report.write(store, run) if search else write_report(run, store=store)
    shell.say(str(path))
    return {"run": run, "report": str(path)}


def withdrawn(store: Store, name: str) -> dict[int, str]:
    """Version -> why endpoints took it out of traffic."""
    from penstock.errors import ModelError
    from penstock.registry import standing

    try:
        return {v: f"withdrawn: {why}" for v, why in standing(store, name).withdrawn.items()}
    except ModelError:  # its versions say so themselves
        return {}


def metric_name(goal: Any) -> str:
    """The goal metric of a card."""
    return str(goal["metric"] if isinstance(goal, dict) else goal)
