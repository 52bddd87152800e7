"""Options and arguments that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.errors import PenstockError

WorkloadName = Annotated[str, typer.Argument(metavar="WORKLOAD", help="One of `penstock list`.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.SUB=VALUE]…", help="Settings, such as optim.lr=3e-4; values as in TOML."),
]
Data = Annotated[str | None, typer.Option(metavar="SOURCE", help="`format:path`; default: synthetic.")]
Preset = Annotated[str | None, typer.Option(metavar="P", help="Settings to start from; default: default.")]
File = Annotated[Path | None, typer.Option("--config", metavar="F.toml", help="Settings from a file.")]
Bad = Annotated[int, typer.Option("--skip-bad", min=0, metavar="N", help="Leave out up to N bad items.")]
Cpus = Annotated[int | None, typer.Option(min=1, help="Logical CPUs of a local Ray.")]
Gpus = Annotated[float | None, typer.Option(min=0, help="Default: 1 where there are GPUs, else 0.")]
ModelName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name to publish under; default: the workload's.")
]
Promote = Annotated[
    bool, typer.Option("--promote", help="Make it live, unless it is worse than what is live.")
]


def local(text: str) -> Path:
    """A path to write to; PenstockError for a URL, which a path would make a folder of."""
    if "://" in text:
        raise PenstockError(f"{text!r} is no folder or file of this machine; name one")
    return Path(text)
