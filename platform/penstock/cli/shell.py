"""Around every verb: the options all of them take, what it prints, and errors in one line."""

from __future__ import annotations

import atexit
import functools
import inspect
import json
import math
import os
import signal
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from penstock import catalog
from penstock.cli.progress import Progress
from penstock.errors import PenstockError, RunFailed, nearest
from penstock.workload import resolve

JsonOption = Annotated[bool, typer.Option("--json", help="The last line of stdout is one JSON object.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PLACE",
        help="Where everything is kept, a folder or s3://BUCKET/PREFIX; default: PENSTOCK_STORE, else "
        "~/.penstock.",
    ),
]


@dataclass
class Shell:
    """What a verb is given: where it keeps things, and how it talks."""

    json: bool = False
    store: str | None = None
    out: TextIO = field(default_factory=lambda: sys.stdout)
    code: int = 0  # to end with, where a verb passes on another command's exit code

    def say(self, *lines: str) -> None:
        """Lines for a person; left out with --json."""
        if not self.json:
            print(*lines, sep="\n", file=self.out, flush=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Columns as wide as they need to be, under their names."""
        cells = [[str(cell) for cell in row] for row in (head, *rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        for row in cells:
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def answer(self, result: Mapping[str, Any]) -> None:
        """The last line, with --json."""
        if self.json:
            print(json.dumps(plain(result), allow_nan=False), file=self.out, flush=True)

    @contextmanager
    def progress(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Takes events while the block runs: shown on one calm line, or as plain lines, or as JSON."""
        if self.json:
            yield lambda event: print(json.dumps(plain(event)), file=self.out, flush=True)
        else:
            with Progress(self.out) as progress:
                yield progress.show


class Verbs(TyperGroup):
    """The platform's verbs, and those that installed workloads bring (`Workload.commands`)."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        return brought(cmd_name) if command is None else command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[:1] == ["bench"] and len(args) > 1 and brings(args[1], "bench"):
            args = [args[1], "bench", *args[2:]]  # all that follows is the workload's own
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise PenstockError(f"no verb {args[0]!r}{nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def brought(workload: str) -> Any:
    """The verbs of an installed workload's own, as a command; None where it has none."""
    commands = catalog.find(workload).commands if workload in catalog.installed() else None
    return typer.main.get_command(resolve(commands)) if commands else None


def brings(workload: str, verb: str) -> bool:
    return verb in getattr(brought(workload), "commands", {})


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="First steps: `penstock demo`, or `penstock train pathology --preset smoke`.",
)


@app.callback()
def penstock(context: typer.Context, json: JsonOption = False, store: StoreOption = None) -> None:
    """Distributed training and serving on Ray: kill it, shrink it, ship it: same answer, with error bars."""
    context.obj = Shell(json, store)


def verb(
    example: str, stopped: str = "stopped", name: str | None = None, words_last: bool = False
) -> Callable[[Callable[..., dict[str, Any]]], Callable[..., None]]:
    """Registers `run(shell, …) -> result`. `example` ends its --help; `stopped` is said on Ctrl-C. With
    `words_last` all that follows the first argument belongs to the arguments, options too."""

    def register(run: Callable[..., dict[str, Any]]) -> Callable[..., None]:
        hints = typing.get_type_hints(run, include_extras=True)
        given = list(inspect.signature(run).parameters.values())[1:]
        shared = [
            inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption),
            inspect.Parameter("store", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=StoreOption),
        ]
        context = inspect.Parameter(
            "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        parameters = [context, *(each.replace(annotation=hints[each.name]) for each in given), *shared]

        @functools.wraps(run)
        def command(context: typer.Context, *, json: bool, store: str | None, **values: Any) -> None:
            before: Shell = context.obj
            with standard_output(json or before.json) as out:
                shell = Shell(json or before.json, store or before.store, out)
                try:
                    shell.answer(run(shell, **values))
                except KeyboardInterrupt as stop:
                    complain(stopped)
                    raise typer.Exit(code_of(stop)) from None
            if shell.code:
                raise typer.Exit(shell.code)

        # what typer reads, in place of `run`'s own
        vars(command)["__signature__"] = inspect.Signature(parameters)
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        del command.__wrapped__
        app.command(
            name or run.__name__,
            epilog=f"Example:  penstock {example}",
            context_settings={"allow_interspersed_args": not words_last},
        )(command)
        return command

    return register


@contextmanager
def standard_output(json: bool) -> Iterator[TextIO]:
    """Where results go. With --json whatever a library prints goes to stderr instead, from this process and
    from those it starts: the last line of stdout has to be the answer."""
    if not json:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out:
            yield out
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def main() -> None:
    """The console script. Exit code 2: the user can put it right; 1: a run failed; 130: stopped by Ctrl-C;
    143: by SIGTERM."""
    if (
        os.environ.get("RAY_JOB_STOP_SIGNAL") == "SIGINT"
        and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):
        # a job whose Ray was started in a script's background: Python leaves the signal ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with stoppable():
            code = app(prog_name="penstock", standalone_mode=False)
    except PenstockError as error:
        complain(str(error))
        code = 2
    except RunFailed as error:
        complain(str(error))
        code = 1
    except TyperException as error:  # an option or argument that does not exist, or is missing
        where = getattr(getattr(error, "ctx", None), "command_path", None) or "penstock"
        message = error.format_message().rstrip(".")
        complain(f"{message[:1].lower()}{message[1:]}; see `{where} --help`")
        code = 2
    except KeyboardInterrupt as stop:
        complain("stopped")
        code = code_of(stop)
    # all is said; what others do at the end (Ray leaves its cluster) is not to be cut short. The last that is
    # registered comes first, and who calls this within a process of their own keeps their Ctrl-C
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    sys.exit(code or 0)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which stops a verb as Ctrl-C does."""


def code_of(stop: KeyboardInterrupt) -> int:
    """The exit code of what was stopped, as a shell has it: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, as containers and batch systems send it, stops the block as Ctrl-C does. Neither is lost
    in a destructor or in the callback of a weak reference, out of which nothing is raised."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    def unheard(told: Any) -> None:
        if isinstance(told.exc_value, KeyboardInterrupt):  # once more, when that is over
            again = (os.getpid(), code_of(told.exc_value) - 128)
            threading.Timer(0.01, os.kill, again).start()
        else:
            hook(told)

    before, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    if before is not signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = unheard
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)


def complain(message: str) -> None:
    """One line on stderr."""
    print(f"penstock: {' '.join(message.split())}", file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    """JSON values: tuples as lists, NaN and infinities as null (JSON has none), anything else as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def interval(figure: Mapping[str, Any]) -> str:
    """`0.951 (0.931 to 0.968)` of a metric with its 95 % interval."""
    value, low, high = (figure.get(key) for key in ("value", "low", "high"))
    if value is None or value != value:
        return "undefined"
    return (
        f"{value:.3f} ({low:.3f} to {high:.3f})" if low is not None and high is not None else f"{value:.3f}"
    )
