"""Errors over HTTP: application/problem+json (RFC 9457), always, and nothing that leaks.

A problem never holds a stack trace, a path on disk, an exception's class, a token, or more than 64
characters of what was sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

CONTENT_TYPE = "application/problem+json"
TITLES = {
    400: ("bad-request", "The request cannot be read"),
    401: ("unauthorized", "An access key is needed"),
    403: ("forbidden", "This access key may not do that"),
    404: ("not-found", "There is no such thing here"),
    405: ("method-not-allowed", "This path does not take that method"),
    406: ("not-acceptable", "The answer cannot be given in that form"),
    408: ("slow-body", "The body did not arrive in time"),
    413: ("too-large", "The body is too large"),
    414: ("long-url", "The URL is too long"),
    415: ("media-type", "This media type is not taken"),
    422: ("invalid-content", "The request was read but cannot be answered"),
    429: ("rate", "Too many requests"),
    431: ("large-headers", "The headers are too large"),
    500: ("fault", "The server made a mistake"),
    503: ("unavailable", "Not available at the moment"),
    504: ("deadline", "The answer was not ready in time"),
}
_ECHO = 64
_MOST_ERRORS = 20
_MOST_DETAIL = 400


class Problem(Exception):
    """An answer that is an error. `errors`: (JSON pointer such as "/image", what is wrong with it)."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status if status in TITLES else (400 if status < 500 else 500)
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})

    def body(self, request_id: str, more: Mapping[str, Any] | None = None) -> bytes:
        """The document, as UTF-8 JSON. `more`: members beside the standard's, for clients that look there."""
        slug, title = TITLES[self.status]
        document: dict[str, Any] = {
            "type": f"/problems/{slug}",
            "title": title,
            "status": self.status,
            "detail": shorten(self.detail),
            "instance": f"urn:request:{request_id}",
            "errors": [
                {"pointer": "#" + quote(pointer, safe="/~"), "detail": shorten(detail)}
                for pointer, detail in self.errors[:_MOST_ERRORS]
            ],
        }
        document |= more or {}
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def excerpt(text: str) -> str:
    """At most 64 printable characters of something that was sent."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text[: _ECHO + 1])
    return printable if len(printable) <= _ECHO else printable[: _ECHO - 1] + "…"


def shorten(text: str) -> str:
    """A detail with every unbroken run cut to 64 characters, and itself to a few lines: what a
    workload's message quotes of its input stays short."""
    text = re.sub(r"\S{65,}", lambda run: run.group()[: _ECHO - 1] + "…", text)
    return text if len(text) <= _MOST_DETAIL else text[: _MOST_DETAIL - 1] + "…"


def pointer(parts: Iterable[str | int]) -> str:
    """The JSON pointer to a place in the request; keys a client made up are cut short."""
    return "".join("/" + excerpt(str(part)).replace("~", "~0").replace("/", "~1") for part in parts)


def invalid(error: ValidationError) -> Problem:
    """422 with one entry per field that pydantic refused."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [(pointer(one["loc"]), _plain(one["msg"])) for one in found]
    count = "one field is" if len(errors) == 1 else f"{len(errors)} fields are"
    first_pointer, first = errors[0]
    return Problem(422, f"{count} not valid; {first_pointer or 'the request'}: {first}", errors)


def _plain(message: str) -> str:
    for prefix in ("Value error, ", "Assertion failed, "):
        message = message.removeprefix(prefix)
    return excerpt_words(message[:1].lower() + message[1:])


def excerpt_words(message: str) -> str:
    # a validator of ours never quotes more than it has to; one of a stranger's might
    return shorten(message)[:200]
