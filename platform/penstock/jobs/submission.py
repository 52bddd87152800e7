"""The verb submit: what a job is made of, and what became of it."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import uuid
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from penstock import catalog, config
from penstock.cluster import SETTINGS
from penstock.errors import PenstockError
from penstock.jobs.client import COMMAND, RESERVED, Dashboard, Job, find_address
from penstock.jobs.following import ending, follow
from penstock.jobs.wheel import Wheel, amount, make
from penstock.store import Store

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LAST_S = 30.0
_SOURCE = re.compile(r"(\w[\w-]*:)(.+)")
_OWN = ("RAY_AUTH_MODE", "RAY_worker_niceness")  # settings that are the cluster's own affair
STOP_S = 60
"""Seconds that a stopped job has to end in order; then it is killed."""


def submit(
    words: Sequence[str],
    *,
    address: str | None = None,
    job: str | None = None,
    wait: bool = True,
    cpus: float = 0.0,
    gpus: float = 0.0,
    installed: bool = False,
    store: str | Store | None = None,
    show: Callable[[str], None] = lambda text: print(text, end="", flush=True),
    say: Callable[[str], None] = print,
) -> Job:
    """Runs `penstock WORDS…` as a job of the cluster whose dashboard is at `address` (default:
    RAY_API_SERVER_ADDRESS, RAY_ADDRESS), and returns what became of it (`status`, `exit_code`).

    Penstock and the third-party workloads installed here are sent along as wheels, unless the cluster has
    them `installed`; the settings in a file after --config are sent, too, and relative paths are of this
    process's folder. The same `job` (its submission id) with the same words again follows what is there.
    `cpus` and `gpus` are reserved for the command itself, beside what it asks for by itself. `show` gets the
    log in pieces, `say` a line at a time about what is done; without `wait` it returns once the cluster has
    the job. PenstockError: no such cluster, its token or versions, a package too large, an id taken by
    another command.
    """
    dashboard = Dashboard(find_address(address))
    started = start(
        dashboard, spelled(words), job=job, cpus=cpus, gpus=gpus, installed=installed, store=store, say=say
    )
    return watch(dashboard, started.id, show, say) if wait else started


def start(
    dashboard: Dashboard,
    words: Sequence[str],
    *,
    job: str | None,
    cpus: float,
    gpus: float,
    installed: bool,
    store: str | Store | None,
    say: Callable[[str], None],
) -> Job:
    """The job, on the cluster, as it is now; it may have been there before."""
    if not words:
        raise PenstockError("nothing to submit; write the verb after --: penstock submit -- train pathology")
    chosen = f"{words[0]}-{uuid.uuid4().hex[:8]}" if job is None else job
    if not _ID.fullmatch(chosen):
        raise PenstockError(f"--id {chosen!r}: up to 100 letters, digits and ._- are taken")
    for name, number in (("--cpus", cpus), ("--gpus", gpus)):
        if not math.isfinite(number):
            raise PenstockError(f"{name} {number}: nothing has so many; write a number such as 1")
    tokens = dashboard.check()
    there = dashboard.job(chosen) if job is not None else None
    if there is None:
        root = _root(store, dashboard, say)
        packages = [] if installed else list(_sent(dashboard, say))
        dashboard.submit(
            {
                "submission_id": chosen,
                # from / : what lies where Ray was started must not be taken for a package
                "entrypoint": f"cd / && exec python -m penstock {shlex.join(words)}",
                "entrypoint_num_cpus": cpus,
                "entrypoint_num_gpus": gpus,
                "metadata": {COMMAND: json.dumps(list(words)), RESERVED: reserved(cpus, gpus)},
                "runtime_env": _environment(packages, root, tokens),
            }
        )
        there = dashboard.find(chosen)
        say(f"job {chosen}: penstock {shlex.join(words)}")
    else:
        say(f"job {chosen} is there already, {there.status.lower()}; another --id runs the command anew")
    # also where somebody else was faster with the same id
    if there.words != tuple(words):
        ran = f"penstock {shlex.join(there.words)}" if there.words is not None else there.entrypoint
        raise PenstockError(f"job {chosen!r} is there already, as {ran[:200]!r}; choose another --id")
    return there


def spelled(words: Sequence[str]) -> list[str]:
    """The words of a verb as they mean the same where the job runs: relative paths made absolute, the
    settings in their config file spelled out. A setting that stands among the words wins, as ever.
    ConfigError: there is no such file."""
    rest, file = [], None
    given = iter(_placed(words))
    for word in given:
        name, equals, value = word.partition("=")
        if name == "--config" and (equals or (value := next(given, ""))):
            file = Path(value)
        else:
            rest.append(word)
    if file is None:
        return rest
    named = {word.partition("=")[0] for word in rest}
    return rest + [word for name, word in config.spelled(config.read_toml(file)).items() if name not in named]


def _placed(words: Sequence[str]) -> Iterator[str]:
    """The words with relative paths made absolute."""
    option, arguments = "", 0
    for word in words:
        name, equals, value = word.partition("=")
        if option:
            yield _OPTIONS[option](word)
            option = ""
        elif name in _OPTIONS:
            yield f"{name}={_OPTIONS[name](value)}" if equals else name
            option = "" if equals else name
        else:
            arguments += not word.startswith("-")
            here = arguments > 2 and not word.startswith("-")  # behind the verb and what it is about
            yield _ARGUMENTS.get(words[0], str)(word) if here else word


def _absolute(path: str) -> str:
    """A path or URL as it means the same in any folder; "" stays."""
    if not path or "://" in path:
        return path
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:
        raise PenstockError(f"{path!r}: there is no such home folder; write the whole path") from None


def _source(text: str) -> str:
    """KIND:PATH with its path absolute; anything else as it is."""
    found = _SOURCE.fullmatch(text)
    return found[1] + _absolute(found[2]) if found and "://" not in text else text


_OPTIONS: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(("--store", "--output", "--records", "--openings"), _absolute),
    **dict.fromkeys(("--data", "--track"), _source),
    "--config": str,  # read here
}
_ARGUMENTS: dict[str, Callable[[str], str]] = {"prepare": _source, "predict": _absolute}


def reserved(cpus: float, gpus: float) -> str:
    """What a command reserves, in words; "" for nothing."""
    counts = ((cpus, "CPU"), (gpus, "GPU"))
    return ", ".join(f"{count:g} {name}{'s' * (count != 1)}" for count, name in counts if count)


def watch(
    dashboard: Dashboard, job: str, show: Callable[[str], None], say: Callable[[str], None] = print
) -> Job:
    """The job once it is over; `show` gets its log in pieces meanwhile, `say` why it does not begin."""
    for text in follow(dashboard, job, say):
        show(text)
    return ending(dashboard, job, _LAST_S)


def cause(job: Job, log_end: str) -> str:
    """Why a job failed, in one line: the last one of its log, else what Ray says."""
    if job.words is not None and job.exit_code == 127 and "not found" in log_end:
        return "the cluster's node has no `python` on its PATH; start Ray there from within its environment"
    lines = [line for line in (log_end if job.exit_code is not None else job.message).splitlines() if line]
    return (lines[-1] if lines else job.message or "no reason given").removeprefix("penstock: ")[:400]


def _sent(dashboard: Dashboard, say: Callable[[str], None]) -> Iterator[str]:
    """The URIs of what the job needs, each on the cluster by then."""
    for wheel in wheels(say):
        held = dashboard.has(wheel.package)
        largest = ", ".join(f"{name} {amount(size)}" for name, size in wheel.largest)
        say(
            f"{wheel.name}: a wheel of {amount(len(wheel.data))}"
            + (", on the cluster already" if held else f"; largest files: {largest}")
        )
        if not held:
            dashboard.upload(wheel.package, wheel.data)
        yield f"gcs://{wheel.package}"


def wheels(say: Callable[[str], None]) -> list[Wheel]:
    """Penstock's and those of the third-party workloads. One that cannot be made is left out, and said."""
    try:
        own = distribution("penstock")
    except PackageNotFoundError:
        raise PenstockError(
            "penstock is not installed here, so no wheel can be made; pip install it"
        ) from None
    made = [make(own)]
    others: dict[str, Distribution] = {}
    for point in catalog.installed().values():
        if point.dist is not None and point.dist.name != own.name:
            others.setdefault(point.dist.name, point.dist)
    for name in sorted(others):
        try:
            made.append(make(others[name]))
        except PenstockError as error:
            say(f"not sent: {error}")
    return made


def _root(store: str | Store | None, dashboard: Dashboard, say: Callable[[str], None]) -> str:
    """What PENSTOCK_STORE is for the job."""
    named = str(store.url if isinstance(store, Store) else store or os.environ.get("PENSTOCK_STORE") or "")
    root = _absolute(named or "~/.penstock")
    if "://" not in root and not dashboard.local:
        say(
            f"store: {root}; every node of the cluster has to see this folder, or pass --store s3://BUCKET/PREFIX"
        )
    return root


def _environment(packages: Sequence[str], root: str, tokens: bool) -> dict[str, Any]:
    """The job's runtime_env. Neither token nor key is in it: the cluster's nodes have their own."""
    variables = {name: value for name, value in SETTINGS.items() if name not in _OWN}
    variables |= {
        "PENSTOCK_STORE": root,
        "RAY_JOB_STOP_SIGNAL": "SIGINT",  # what a verb takes for Ctrl-C, and leaves in order
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
    }
    if not tokens:
        variables["RAY_AUTH_MODE"] = "disabled"
    return {"env_vars": variables, **({"py_modules": list(packages)} if packages else {})}
