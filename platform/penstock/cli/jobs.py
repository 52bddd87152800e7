"""Verbs about the same verbs on a cluster: submit, jobs."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from penstock import catalog
from penstock.api import configure
from penstock.cli.shell import Shell, app, code_of, complain, verb
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock.jobs.client import Dashboard, Job

Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="The cluster's dashboard; default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS."
    ),
]
PLACELESS = (
    "is still pending: it ends when it gets its place, at the latest after Ray's start timeout "
    "(15 min, or RAY_JOB_START_TIMEOUT_SECONDS of the cluster)"
)
_PLACE_S = 5.0  # after which a job that was told to stop and has not begun is left to the cluster
_TAIL = 4000  # characters of a log that its cause is looked for in


@verb("submit --address http://127.0.0.1:8265 -- train pathology --preset smoke", words_last=True)
def submit(
    shell: Shell,
    words: Annotated[list[str], typer.Argument(metavar="-- VERB …", help="As after `penstock`.")],
    address: Address = None,
    id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same again follows the job that is there.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the log.")] = False,
    cpus: Annotated[float, typer.Option(min=0, help="Reserved for the command itself.")] = 0.0,
    gpus: Annotated[float, typer.Option(min=0, help="Reserved for the command itself.")] = 0.0,
    installed: Annotated[
        bool, typer.Option("--installed", help="Send no code: the cluster has this version.")
    ] = False,
) -> dict[str, Any]:
    """Run a verb as a Ray job. The code goes along, the log comes back, the exit code is the job's.

    Data that the verb names, and the store, have to be where the whole cluster sees them; relative paths are
    of the folder here, and the settings of a --config file are sent.
    """
    from penstock.jobs.client import Dashboard, find_address
    from penstock.jobs.submission import spelled, start

    words = spelled(words)
    demand_verb(words)
    dashboard = Dashboard(find_address(address))
    job = start(
        dashboard,
        words,
        job=id,
        cpus=cpus,
        gpus=gpus,
        installed=installed,
        store=shell.store,
        say=lambda line: print(line, file=log_of(shell), flush=True),
    )
    if no_wait:
        shell.say(f"Next: penstock jobs logs {job.id} --follow")
        return told(job)
    return told(to_its_end(shell, dashboard, job.id))


@verb("jobs logs train-1a2b3c4d --follow")
def jobs(
    shell: Shell,
    what: Annotated[Literal["list", "logs", "stop"], typer.Argument(help="What to do.")] = "list",
    job: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="With logs and stop: of `jobs list`.")
    ] = None,
    address: Address = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="With logs: until the job is over; exit code as the job's.")
    ] = False,
) -> dict[str, Any]:
    """Jobs of a cluster: list them, show the log of one, stop one."""
    from penstock.jobs.client import Dashboard, find_address
    from penstock.jobs.following import ending
    from penstock.jobs.submission import STOP_S

    if (what == "list") != (job is None):
        raise PenstockError(f"jobs {what}: {'takes no ID' if job else 'which one? penstock jobs list'}")
    if follow and what != "logs":
        raise PenstockError(f"jobs {what}: takes no --follow; penstock jobs logs ID --follow")
    dashboard = Dashboard(find_address(address))
    if job is None:
        return {"jobs": listed(shell, dashboard.jobs())}
    found = dashboard.find(job)
    if what == "stop":
        if not found.over:
            dashboard.stop(found.id)
            found = ending(dashboard, found.id, STOP_S + 30, _PLACE_S)
        shell.say(f"job {found.id} {'is ' + found.status.lower() if found.over else PLACELESS}")
        return told(found)
    if follow:
        return told(to_its_end(shell, dashboard, found.id))
    print(dashboard.log(found.id), end="", file=log_of(shell), flush=True)
    return told(found)


def demand_verb(words: Sequence[str]) -> None:
    """What can be told here of a command that will run elsewhere: verb, options, workload, settings.
    PenstockError or a usage error, as if it had been typed."""
    if not words or words[0].startswith("-"):
        raise PenstockError("submit: the verb comes first after --: penstock submit -- train pathology")
    if words[0] in ("submit", "jobs"):
        raise PenstockError(f"submit -- {words[0]}: a job submits no jobs; run it from here")
    if words[0] == "new":
        raise PenstockError("submit -- new: it writes a folder to work on here; run it from here")
    root: Any = typer.main.get_command(app)
    context = root.context_class(root, info_name="penstock")
    _, command, rest = root.resolve_command(context, list(words))
    given = command.make_context(words[0], rest, parent=context).params
    if words[0] in ("prepare", "train"):
        configure(given["workload"], given["preset"], None, given["words"] or ())
    elif words[0] == "tune":
        from penstock.tuning.asked import wanted

        how = (given["scheduler"], given["searcher"], given["preset"])
        wanted(catalog.find(given["workload"]), *how, None, given["words"] or ())


def to_its_end(shell: Shell, dashboard: Dashboard, job: str) -> Job:
    """Follows the job's log; Ctrl-C leaves the job alone. The shell's exit code becomes the job's."""
    from penstock.jobs.submission import cause, watch

    end = ""

    def show(text: str) -> None:
        nonlocal end
        end = (end + text)[-_TAIL:]
        print(text, end="", file=log_of(shell), flush=True)

    try:
        found = watch(dashboard, job, show, complain)
    except KeyboardInterrupt as stop:
        complain(f"job {job} goes on: penstock jobs logs {job} --follow; penstock jobs stop {job} ends it")
        raise typer.Exit(code_of(stop)) from None
    shell.code = found.code
    if found.code:
        complain(f"job {job} {found.status.lower()} (exit code {found.code}): {cause(found, end)}")
    return found


def listed(shell: Shell, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The rows of `jobs list`, shown."""
    rows = [
        told(job)
        | {
            "command": f"penstock {shlex.join(job.words)}" if job.words is not None else job.entrypoint,
            "started": clock(job.started) if job.started else None,
            "seconds": round((job.ended or time.time()) - job.started, 1) if job.started else None,
        }
        for job in jobs
    ]
    if rows:
        shell.table(list(rows[0]), [["-" if cell is None else cell for cell in row.values()] for row in rows])
    else:
        shell.say("no jobs yet; `penstock submit -- VERB …` makes one")
    return rows


def clock(seconds: float) -> str:
    """Local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def told(job: Job) -> dict[str, Any]:
    """What --json says of a job."""
    return {"job": job.id, "status": job.status, "exit_code": job.exit_code}


def log_of(shell: Shell) -> TextIO:
    """Where a job's log goes: with --json, stdout is for the answer."""
    return sys.stderr if shell.json else shell.out
