"""The format `yaml`: ChatterBot's corpora. `conversations` is a list of dialogues, each a list of texts said
in turn; `categories` is not looked at. Replies to the same question are split together, by a hash of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from penstock.workload import Scan
from workloads.chatbot.config import Data
from workloads.chatbot.data import Bad, Exchange, Exchanges, Turn, clean, files_in, replies_of, scan_of, utf8

ROLES = ("user", "assistant")


class Yaml(Exchanges):
    """The format `yaml`."""

    def scan(self, path: str, config: Data) -> Scan:
        files = files_in(path, (".yml", ".yaml"), "yaml")
        return scan_of((one for file in files for one in exchanges(file)), Path(path), files)


class Words(yaml.SafeLoader):
    """YAML without surprises: every scalar is a text (`Yes` and `1.0` as they stand), and nothing refers to
    anything, so that a small file stays small."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # the library's own annotation

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases (*name) are not read; write the text out")
        return super().compose_node(parent, index)


def exchanges(file: Path) -> Iterator[Exchange | Bad]:
    """Every exchange of a file, or why an entry (or all of it) holds none."""
    try:
        found = yaml.load(utf8(file.read_bytes()), Words)  # a SafeLoader
    except RecursionError:
        yield Bad(file.name, "nested too deeply")
        return
    except yaml.MarkedYAMLError as error:
        at = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        yield Bad(file.name, f"not YAML: {error.problem or error.context}{at}")
        return
    except (ValueError, yaml.YAMLError) as error:
        yield Bad(file.name, f"not YAML: {str(error).splitlines()[0]}")
        return
    entries = found.get("conversations") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        yield Bad(file.name, "no list `conversations`")
        return
    for number, entry in enumerate(entries):
        name = f"{file.name}:{number}"
        if not isinstance(entry, list):
            kind = "a bare string" if isinstance(entry, str) else f"a {type(entry).__name__}"
            yield Bad(name, f"{kind}, not a list of texts")
        elif not all(isinstance(text, str) for text in entry):
            yield Bad(name, "a text is missing, or is a list itself")
        else:
            turns = [Turn(ROLES[place % 2], text) for place, text in enumerate(entry)]
            yield from replies_of(name, turns, clean(turns[0].text) if turns else name)
