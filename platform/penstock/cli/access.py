"""The verb about who may ask: keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from penstock.cli.shell import Shell, verb
from penstock.errors import PenstockError


@verb("keys add --scope predict --note 'the app'")
def keys(
    shell: Shell,
    what: Annotated[Literal["list", "add", "revoke"], typer.Argument(help="What to do.")] = "list",
    key: Annotated[str | None, typer.Argument(metavar="[ID]", help="With revoke: of `keys list`.")] = None,
    scope: Annotated[
        Literal["predict", "admin"], typer.Option(help="With add: what it opens; admin opens all.")
    ] = "predict",
    note: Annotated[str, typer.Option(help="With add: what it is for.")] = "",
    rate: Annotated[
        float, typer.Option(min=0, help="With add: requests a second; 0: as for everybody.")
    ] = 0.0,
) -> dict[str, Any]:
    """Access keys of the endpoint: list, add, revoke. A key is shown once, and kept as a hash."""
    from penstock.serving.web import access
    from penstock.store import Store

    store = Store.open(shell.store)
    if (what == "revoke") != (key is not None):
        raise PenstockError(
            f"keys {what}: {'which one?' if what == 'revoke' else 'takes no ID'}; penstock keys list"
        )
    shown: dict[str, Any] = {}
    if what == "add":
        made, secret = access.add(store, scope, note, rate)
        shell.say(f"key {made.id} for {scope}, shown this once:", secret)
        shown = {"id": made.id, "key": secret}
    elif what == "revoke" and key is not None:
        access.revoke(store, key)
        shell.say(f"key {key} opens nothing any more")
    rows = [
        {name: getattr(one, name) for name in ("id", "scope", "note", "rate", "created", "revoked")}
        for one in access.keys(store)
    ]
    if what == "list":
        if rows:
            shell.table(list(rows[0]), [list(row.values()) for row in rows])
        else:
            shell.say("no keys yet; `penstock keys add` makes one")
    return {"keys": rows, **shown}
