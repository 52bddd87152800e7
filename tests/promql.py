"""As much of PromQL as our rules use: the metrics of an expression, and the labels asked of each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_WORDS = {"and", "or", "unless", "on", "ignoring", "bool", "offset"}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_TOKEN = re.compile(r'([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?|"[^"]*"|\[[^\]]*\]|[\d.]+\w*|\S')


@dataclass
class Asked:
    metrics: dict[str, set[str]] = field(default_factory=dict)
    """Of each: the labels that its matchers name."""
    grouped: set[str] = field(default_factory=set)


def asked(expression: str) -> Asked:
    """What an expression asks for. ValueError for brackets that do not match."""
    found = Asked()
    for group in _GROUPING.findall(expression):
        found.grouped |= {label.strip() for label in group.split(",") if label.strip()}
    text = _GROUPING.sub(" ", expression)
    if any(text.count(a) != text.count(b) for a, b in ("()", "[]", "{}")):
        raise ValueError(f"brackets that do not match: {expression}")
    for match in _TOKEN.finditer(text):
        name, after = match[1], match[2] or ""
        if not name or name in _WORDS or after == "(" or name in ("sum", "max", "min", "avg", "count"):
            continue
        matchers = found.metrics.setdefault(name, set())
        matchers |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", after))
    return found
