"""The whole way in one command: train every workload on its synthetic source, serve them all, ask them."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from penstock import catalog
from penstock.errors import PenstockError, RunFailed
from penstock.store import Store, write_atomic
from penstock.workload import resolve

Say = Callable[..., None]
OnEvent = Callable[[dict[str, Any]], None]
LONGEST = 60
"""Characters of a text in an answer that are printed; pictures are longer."""
MOST = 4
"""Things of a list that are; a box has four numbers."""


def run_demo(
    names: Sequence[str] | None = None,
    *,
    once: bool = False,
    port: int = 0,
    store: str | Path | None = None,
    say: Say = print,
    answer: Callable[[Mapping[str, Any]], None] = lambda result: None,
    progress: Callable[[], AbstractContextManager[OnEvent]] = lambda: nullcontext(ignore),
) -> dict[str, Any]:
    """Trains the workloads `names` (default: all) with preset smoke in the folder `demo` of the store, serves
    them and, with `once`, sends each one request over HTTP and stops; else stays until Ctrl-C.

    Gives {"url", "store", "models", "answers"}; `answer` is told the same as soon as the endpoint is ready.
    """
    from penstock.serving.server import serve

    place = Store.open(Store.open(store).root / "demo")
    chosen = list(names or catalog.installed())
    if not chosen:
        raise PenstockError("no workload is installed; `penstock new NAME` writes one")
    say(f"demo in {place.root}: what is trained is kept there")
    models = [train_one(name, place, say, progress) for name in chosen]
    say("starting the endpoint")
    with serve(models, store=place, port=port, block=False) as endpoint:
        samples = {model: write_sample(model, place) for model in models}
        result: dict[str, Any] = {"url": endpoint.url, "store": str(place.root), "models": models}
        if once:
            result["answers"] = {model: ask(endpoint.url, model, path) for model, path in samples.items()}
            for model, said in result["answers"].items():
                say(f"{model}: {json.dumps(shortened(said), ensure_ascii=False)}")
            return result
        say(f"\nserving at {endpoint.url} until Ctrl-C; {endpoint.url}/docs shows every path. Try:")
        for model, path in samples.items():
            say(f"  {curl_line(endpoint.url, model, path)}")
        answer(result)
        wait()
    return result


def ignore(event: dict[str, Any]) -> None:
    """Nobody wants to see it."""


def train_one(
    name: str, store: Store, say: Say, progress: Callable[[], AbstractContextManager[OnEvent]]
) -> str:
    """Trains and publishes one workload, in this process; "name@version"."""
    from penstock import registry
    from penstock.experiment import train

    say(f"{name}: training with preset smoke on synthetic data")
    with progress() as show:
        made = train(name, preset="smoke", workers=1, store=store, live_first=True, on_event=show)
    if "live" not in made.aliases:  # the demo's newest is what the demo serves
        registry.promote(store, made.model, made.version)
    goal = catalog.find(name).goal.metric
    value, low, high = (_number(made.metrics.get(goal, {}).get(key)) for key in ("value", "low", "high"))
    say(f"{name}: {goal} {value} (95 % {low} to {high})")
    return f"{made.model}@{made.version}"


def write_sample(model: str, store: Store) -> Path:
    """One item of the model's test split as a file with the JSON that a client would send."""
    from penstock import registry
    from penstock.data.dataset import Dataset

    version = registry.find(store, model)
    workload = registry.workload_of(version)
    loaded = registry.load(store, version)
    rows = list(Dataset.load(store.datasets / version.card["data"]["id"]).test.rows([0]))
    (request,) = resolve(workload.evaluator)(loaded.config, loaded.schema).requests(rows)
    path = store.root / "samples" / f"{version.name}.json"
    write_atomic(path, request.model_dump_json(exclude_none=True).encode())
    return path


def ask(url: str, model: str, sample: Path) -> dict[str, Any]:
    """The model's answer over HTTP; RunFailed with what the endpoint said where there is none."""
    import httpx

    headers = {"Content-Type": "application/json"}
    reply = httpx.post(url_of(url, model), content=sample.read_bytes(), headers=headers, timeout=60)
    if reply.status_code != 200:
        raise RunFailed(f"{model} answered {reply.status_code}: {reply.text[:200]}")
    answer: dict[str, Any] = reply.json()
    return answer


def curl_line(url: str, model: str, sample: Path) -> str:
    """A command that works when pasted."""
    return shlex.join(
        ["curl", "-H", "Content-Type: application/json", "--data", f"@{sample}", url_of(url, model)]
    )


def url_of(url: str, model: str) -> str:
    return f"{url}/v1/models/{model.partition('@')[0]}/predict"


def shortened(value: Any) -> Any:
    """JSON with long texts and lists cut, for people to read."""
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        more = [f"… {len(value) - MOST} more"] if len(value) > MOST else []
        return [*(shortened(item) for item in value[:MOST]), *more]
    if isinstance(value, float):
        return round(value, 4)
    return f"{value[:LONGEST]}…" if isinstance(value, str) and len(value) > LONGEST else value


def wait() -> None:
    """Until Ctrl-C."""
    threading.Event().wait()


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
