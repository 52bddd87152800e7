"""A Go program of others, run beside us and spoken to in GTP."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from workloads.go.board import BLACK, Board, Rules
from workloads.go.notation import NAMES, action_of, brief, vertex

LONGEST_ANSWER = 1_000_000
PARTING = 2.0  # seconds a program gets to end by itself


class ProgramError(RuntimeError):
    """A program could not be started, died, was too slow, or refused a command; one line names it."""


class Program:
    """`command`: the program and its arguments, run without a shell. `timeout`: seconds it has for an answer.
    To be used with `with`, or ended with `close`."""

    def __init__(self, command: Sequence[str], timeout: float = 60.0) -> None:
        if not command:
            raise ProgramError("no program: an empty command line")
        self.name = brief(Path(command[0]).name or command[0])
        self.timeout = timeout
        pipe = subprocess.PIPE
        try:
            self.process = subprocess.Popen(list(command), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        except (OSError, ValueError) as error:
            raise ProgramError(f"{self.name} cannot be started: {error}") from None
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin, self.stdout, self.stderr = self.process.stdin, self.process.stdout, self.process.stderr
        os.set_blocking(self.stderr.fileno(), False)
        self.said = b""  # not yet used
        self.complaint = b""  # the end of what it wrote to stderr
        self.selector = selectors.DefaultSelector()
        for pipe_of in (self.stdout, self.stderr):
            self.selector.register(pipe_of, selectors.EVENT_READ)

    def ask(self, command: str) -> str:
        """The answer, without its `=`. ProgramError; a program that was too slow has been killed."""
        line = command.strip()
        if not line or not line.isprintable() or len(line) > 10_000:
            raise ProgramError(f"{brief(command)!r} is no GTP command")
        try:
            self.stdin.write(line.encode() + b"\n")
        except (OSError, ValueError):
            raise ProgramError(self.died(line)) from None
        answer = self.listen(line)
        text = answer[1:].partition("\n")
        said = (text[0].lstrip("0123456789") + text[1] + text[2]).strip()
        if answer[0] == "=":
            return said
        raise ProgramError(f"{self.name} refused {brief(line)!r}: {brief(said, 200)}")

    def listen(self, line: str) -> str:
        """Up to the empty line that ends an answer."""
        until = time.monotonic() + self.timeout
        while True:
            self.said = self.said.replace(b"\r", b"").lstrip(b"\n\t ")
            answer, end, rest = self.said.partition(b"\n\n")
            if end:
                self.said = rest
                if answer[:1] not in (b"=", b"?"):
                    shown = brief(answer.decode("utf-8", "replace"))
                    raise ProgramError(
                        f"{self.name} answered {brief(line)!r} with {shown!r}, which is no GTP"
                    )
                return answer.decode("utf-8", "replace")
            if len(self.said) > LONGEST_ANSWER:
                self.kill()
                raise ProgramError(f"{self.name}: its answer to {brief(line)!r} has no end; it was stopped")
            ready = self.selector.select(max(until - time.monotonic(), 0))
            if not ready and time.monotonic() >= until:
                self.kill()
                seconds = f"{self.timeout:g} s"
                raise ProgramError(f"{self.name}: no answer to {brief(line)!r} in {seconds}; it was stopped")
            for key, _ in ready:
                self.take(key.fd, line)

    def take(self, pipe: int, line: str) -> None:
        """What has come through one of the pipes. ProgramError at the end of stdout."""
        part = os.read(pipe, 65_536)
        if pipe == self.stdout.fileno():
            if not part:
                raise ProgramError(self.died(line))
            self.said += part
        elif part:
            self.complain(part)
        else:
            self.selector.unregister(pipe)

    def complain(self, part: bytes) -> None:
        self.complaint = (self.complaint + part)[-2_000:]

    def died(self, line: str) -> str:
        self.close()
        lines = self.complaint.decode("utf-8", "replace").split("\n")
        last = next((each.strip() for each in reversed(lines) if each.strip()), "")
        told = f": {brief(last, 200)}" if last else ""
        return f"{self.name} ended (exit code {self.process.returncode}) at {brief(line)!r}{told}"

    def kill(self) -> None:
        """This one process, and no other."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Asks it to quit, and kills it when it does not. May be called twice."""
        if self.stdin.closed:
            return
        with contextlib.suppress(OSError):
            self.stdin.write(b"quit\n")
        self.stdin.close()
        try:
            self.process.wait(PARTING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(BlockingIOError):
            for _ in range(100):
                self.complain(os.read(self.stderr.fileno(), 65_536))
        self.selector.close()
        self.stdout.close()
        self.stderr.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ProgramPlayer:
    """A program as a player of one game at a time, or of both sides of it. ProgramError where it fails; a
    move that is illegal on our board is for the arbiter."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.plies = 0  # that it knows of

    def begin(self, rules: Rules, moves: Sequence[int]) -> None:
        if rules.rows != rules.columns:
            raise ProgramError(
                f"{self.program.name}: GTP has square boards, not {rules.rows} x {rules.columns}"
            )
        for command in (f"boardsize {rules.rows}", "clear_board", f"komi {rules.komi:g}"):
            self.program.ask(command)
        self.plies, colour = 0, BLACK
        for action in moves:
            self.tell(colour, action, rules)
            colour = -colour

    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int | None:
        rules, colour = board.rules, int(board.to_play[row])
        missed = int(board.plies[row]) - self.plies
        if missed not in (0, 1):
            raise ProgramError(f"{self.program.name} has seen {self.plies} of {board.plies[row]} moves")
        if missed:
            self.tell(-colour, int(board.last[row]), rules)
        said = self.program.ask(f"genmove {NAMES[colour]}")
        self.plies += 1
        if said.lower() == "resign":
            return None
        try:
            return action_of(said, rules.rows, rules.columns)
        except ValueError as error:
            raise ProgramError(f"{self.program.name} answered genmove with {error}") from None

    def tell(self, colour: int, action: int, rules: Rules) -> None:
        self.program.ask(f"play {NAMES[colour]} {vertex(action, rules.rows, rules.columns)}")
        self.plies += 1
