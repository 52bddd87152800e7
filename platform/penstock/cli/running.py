"""Verbs that stay: serve, demo; and doctor, which looks whether they could."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from penstock.cli.shell import Shell, complain, verb

Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]


@verb("serve pathology@1 --port 8000", stopped="stopped; the same command serves again")
def serve(
    shell: Shell,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL@ALIAS]…", help="Default: every live model.")
    ] = None,
    port: Port = 8000,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    replicas: Annotated[int, typer.Option(min=1, max=64, help="Processes for each version.")] = 1,
    gateways: Annotated[int, typer.Option(min=1, max=64, help="Processes in front of them.")] = 1,
    ingress: Annotated[
        Literal["proxy", "haproxy"], typer.Option(help="Serve's own proxy, or HAProxy: faster.")
    ] = "proxy",
    keys: Annotated[
        bool, typer.Option("--keys", help="Ask for access keys on this machine's own address, too.")
    ] = False,
) -> dict[str, Any]:
    """The endpoint, in the foreground, until Ctrl-C. Once it is ready it says where it is; it follows what
    `penstock promote` says."""
    from penstock.serving.server import serve as serve_models
    from penstock.store import Store

    ready: dict[str, Any] = {}

    def on_ready(url: str) -> None:
        # with --json this is the last line of stdout for as long as the endpoint lives
        ready["url"] = url
        shell.say(f"serving at {url}; Ctrl-C stops it", f"  curl {url}/v1/models", f"  open {url}")
        shell.answer(ready)

    serve_models(
        models or [],
        store=Store.open(shell.store),
        host=host,
        port=port,
        replicas=replicas,
        gateways=gateways,
        with_keys=keys,
        ingress=ingress,
        on_ready=on_ready,
        on_event=lambda event: shell.say(f"{event.model}: {event.what} {event.detail}".rstrip()),
    )
    complain("stopped; the same command serves again")
    return ready


@verb("demo --once", stopped="stopped; what was trained is kept, so the next demo starts at once")
def demo(
    shell: Shell,
    workloads: Annotated[
        list[str] | None, typer.Argument(metavar="[WORKLOAD]…", help="Default: every installed one.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Send one request to each model, print the answers, stop.")
    ] = False,
    port: Port = 0,
) -> dict[str, Any]:
    """In a store of its own: train every workload on its synthetic source, serve them all."""
    from penstock.demo import run_demo

    return run_demo(
        workloads,
        once=once,
        port=port,
        store=shell.store,
        say=shell.say,
        answer=shell.answer,
        progress=shell.progress,
    )


@verb("doctor")
def doctor(
    shell: Shell,
    cluster: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Look at this cluster.yaml instead; nothing is started."),
    ] = None,
) -> dict[str, Any]:
    """What is right on this machine, what is not, and what to do about it. The exit code is 1 where something
    is not."""
    from penstock.doctor import examine, examine_cluster

    findings = examine_cluster(cluster) if cluster else examine(shell.store)
    for each in findings:
        shell.say(f"{'ok     ' if each.ok else 'PROBLEM'}  {each.what}: {each.found}")
        if not each.ok:
            shell.say(f"         {each.remedy}")
    problems = [
        {"what": each.what, "found": each.found, "do": each.remedy} for each in findings if not each.ok
    ]
    shell.say(f"{len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}")
    shell.code = 1 if problems else 0
    return {
        "problems": problems,
        "findings": [{"what": e.what, "ok": e.ok, "found": e.found} for e in findings],
    }
