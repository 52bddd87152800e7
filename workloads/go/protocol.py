"""GTP 2 without the game (Farnebäck 2002, "Specification of the Go Text Protocol, version 2")."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TextIO

from workloads.go.board import IllegalMove
from workloads.go.notation import brief
from workloads.go.record import reason

LONGEST_LINE = 10_000
Handler = Callable[[list[str]], str]


class Protocol:
    """`commands`: of each name what answers its arguments, and the fewest and the most of these. A
    ValueError, OSError or RuntimeError of a handler is a failure that is answered in one line."""

    def __init__(self) -> None:
        self.open = True
        self.commands: dict[str, tuple[Handler, int, int]] = {
            "protocol_version": (lambda _: "2", 0, 0),
            "known_command": (lambda words: str(words[0] in self.commands).lower(), 1, 1),
            "list_commands": (lambda _: "\n".join(self.commands), 0, 0),
            "quit": (self.quit, 0, 0),
        }

    def quit(self, words: list[str]) -> str:
        self.open = False
        return ""

    def answer(self, line: str) -> str | None:
        """What is answered to a line, its two newlines included; None to a blank one or a comment."""
        if len(line) > LONGEST_LINE:
            return f"? line too long: {len(line)} characters; {LONGEST_LINE} are allowed\n\n"
        words = re.sub(r"[\x00-\x08\x0a-\x1f\x7f]", "", line.partition("#")[0]).split()
        number = words.pop(0) if words and re.fullmatch("[0-9]+", words[0]) else ""
        if not words and not number:
            return None
        try:
            good, said = "=", self.run(words)
        except IllegalMove as error:
            good, said = "?", f"illegal move: {reason(error)}"
        except (ValueError, OSError, RuntimeError) as error:
            good, said = "?", brief(str(error), 200) or type(error).__name__
        return f"{good}{number} {said}".rstrip() + "\n\n"

    def run(self, words: list[str]) -> str:
        name, *arguments = words or [""]
        if name not in self.commands:
            raise ValueError("unknown command")
        handler, fewest, most = self.commands[name]
        if not fewest <= len(arguments) <= most:
            wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"syntax error: {name} takes {wanted} arguments, not {len(arguments)}")
        return handler(arguments)

    def serve(self, stdin: TextIO, stdout: TextIO) -> None:
        """Answers line by line until quit, the end of input, or nobody reads the answers."""
        while self.open and (line := stdin.readline(LONGEST_LINE + 1)):
            rest = line
            while rest and not rest.endswith("\n") and len(line) > LONGEST_LINE:
                rest = stdin.readline(LONGEST_LINE + 1)  # of a line too long, to its end
            said = self.answer(line)
            if said is not None:
                try:
                    stdout.write(said)
                    stdout.flush()
                except BrokenPipeError:
                    return


def whole(word: str) -> int:
    """ValueError for what is no number of at most nine digits."""
    if not re.fullmatch("-?[0-9]{1,9}", word):
        raise ValueError(f"syntax error: {brief(word)} is no whole number")
    return int(word)


def times(words: list[str]) -> list[int]:
    """Seconds and stones. ValueError for less than nothing."""
    numbers = [whole(word) for word in words]
    for number in numbers:
        if number < 0:
            raise ValueError(f"syntax error: {number} is less than nothing")
    return numbers
