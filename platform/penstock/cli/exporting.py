"""The verb export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.judging import Reference
from penstock.cli.options import local
from penstock.cli.shell import Shell, verb


@verb("export pathology --to onnx")
def export(
    shell: Shell,
    model: Reference,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="onnx.")],
    output: Annotated[
        Path | None, typer.Option(parser=local, metavar="DIR", help="A new folder; default: in the store.")
    ] = None,
) -> dict[str, Any]:
    """A model as graphs for another runtime, with its pre- and post-processing described; kept only where
    onnxruntime gives what the model gives."""
    from penstock.exporting import export as export_model
    from penstock.store import Store

    made = export_model(model, to=to, output=output, store=Store.open(shell.store))
    parity = made["parity"]
    shell.say(
        f"{made['name']}@{made['version']} is in {made['output']}: {', '.join(made['files'])}",
        f"{to} gives what the model gives: {parity['answers']} answers ({parity['items']}), "
        f"largest difference {parity['largest_difference']:.2g}",
    )
    return {"models": [made]}
