"""The page at `/`: every served model to try by hand. Plain files, no build step, nothing from elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import FastAPI, Request, Response

from penstock.serving.problems import Problem

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def add(app: FastAPI) -> None:
    """Adds the page and its files, read once: what a request names is looked up, never opened."""
    root = Path(__file__).parent
    files = {
        path.relative_to(root).as_posix(): (path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(root.rglob("*"))
        if path.suffix in _TYPES
    }

    def answer(name: str, request: Request) -> Response:
        if name not in files:
            raise Problem(404, "no such file; the page is at /")
        raw, kind = files[name]
        tag = f'"{hashlib.sha256(raw).hexdigest()[:16]}"'
        headers = {
            "ETag": tag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(raw, media_type=kind, headers=headers)

    @app.get("/")
    async def page(request: Request) -> Response:
        return answer("index.html", request)

    @app.get("/static/{name:path}")
    async def file(name: str, request: Request) -> Response:
        return answer(name, request)
