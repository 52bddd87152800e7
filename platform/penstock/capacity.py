"""What of a cluster is free, and who holds the rest. Read from the cluster itself; no dashboard is needed."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_NAMESPACE = "penstock"
_TINY = 1e-6  # Ray counts in ten-thousandths
_QUIET_S = 3.0
"""Of waiting before anything is said: what has just ended gives its CPUs back within that."""
_LOOK_S = 1.0
"""Between two looks at whether tasks have a place."""


@dataclass(frozen=True)
class Node:
    """A node that takes work: `total` it has and what is `free` of it, by resource ("CPU", "GPU", …)."""

    id: str
    total: Mapping[str, float]
    free: Mapping[str, float]


@dataclass(frozen=True)
class Group:
    """Resources reserved together; `bundles`: (node id, resources), without those that have no place yet."""

    id: str
    actor: str  # that made it; "" for a driver
    job: str
    bundles: tuple[tuple[str, Mapping[str, float]], ...]


def nodes() -> list[Node]:
    """The nodes alive that are not about to be taken away."""
    state = _state()
    free, draining = state.available_resources_per_node(), state.get_draining_nodes()
    return [
        Node(node, total, free.get(node, {}))
        for node, total in sorted(state.total_resources_per_node().items())
        if node not in draining
    ]


def groups() -> list[Group]:
    """The reservations there are, those that still wait for their place among them."""
    from ray.core.generated import gcs_pb2

    found = []
    for raw in _state()._connect_and_get_accessor().get_placement_group_table():
        told = gcs_pb2.PlacementGroupTableData.FromString(raw)
        if told.state != gcs_pb2.PlacementGroupTableData.REMOVED:
            placed = [(_hex(b.node_id), dict(b.unit_resources)) for b in told.bundles]
            bundles = tuple((node, resources) for node, resources in placed if node)
            by = (_hex(told.creator_actor_id), _hex(told.creator_job_id))
            found.append(Group(_hex(told.placement_group_id), *by, bundles))
    return found


def groups_of(actor: str) -> list[Group]:
    """The reservations that an actor made."""
    return [group for group in groups() if group.actor == actor]


def unplaced(kind: str) -> list[Mapping[str, float]]:
    """What each actor asks for that has no place yet, of a class whose name begins with `kind`."""
    from ray.core.generated import gcs_pb2

    table = _state()._connect_and_get_accessor().get_actor_table(None, "PENDING_CREATION")
    actors = [gcs_pb2.ActorTableData.FromString(raw) for raw in table]
    # one with a process has its place, and is still being made
    found = [
        dict(one.required_resources) for one in actors if one.class_name.startswith(kind) and not one.pid
    ]
    return [need for need in found if need]


def give_back(actor: str) -> None:
    """Removes the reservations of an actor that is dead: they outlive it, and nobody else would."""
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    for group in groups_of(actor):
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group.id))))


def room(nodes: Iterable[Node], need: Mapping[str, float], own: Iterable[Group] = ()) -> int:
    """How many workers of `need` each find a place, when what the groups `own` hold is given back first."""
    fits = 0
    returned: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for group in own:
        for place, resources in group.bundles:
            for name, amount in resources.items():
                returned[place][name] += amount
    for node in nodes:
        counts = [
            int((node.free.get(name, 0.0) + returned[node.id][name]) / amount + _TINY)
            for name, amount in need.items()
            if amount > 0
        ]
        fits += min(counts, default=0)
    return fits


def explain(
    workers: int, need: Mapping[str, float], nodes: Iterable[Node], holders: Mapping[str, Mapping[str, float]]
) -> str:
    """Why `workers` of `need` each find no place: `needs 2 CPUs, 1 of 4 free; held by run x (2), …`.

    `holders`: resource -> name -> how much of it.
    """
    nodes = list(nodes)
    parts = []
    for name in sorted(need):  # CPU before GPU
        amount = workers * need[name]
        free = sum(node.free.get(name, 0.0) for node in nodes)
        total = sum(node.total.get(name, 0.0) for node in nodes)
        if amount > free + _TINY:
            held = [f"{who} ({_short(much)})" for who, much in holders.get(name, {}).items()]
            by = f"; held by {', '.join(held)}" if held else ""
            parts.append(f"needs {_count(amount, name)}, {_short(free)} of {_short(total)} free{by}")
    if parts:
        return "; ".join(parts)
    each = " and ".join(_count(need[name], name) for name in sorted(need))
    most = ", ".join(
        _count(max((node.free.get(name, 0.0) for node in nodes), default=0.0), name) for name in sorted(need)
    )
    return f"needs {workers} times {each}, each on one node; free on one node: at most {most}"


class Patience:
    """What to say of something that finds no place: nothing at first, then each reason once."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._said = ""

    def news(self, lacking: Sequence[Mapping[str, float]]) -> str | None:
        """Why the processes that ask for `lacking` find no place; "" once they have, after a reason was said;
        None when there is nothing new to say."""
        now = time.monotonic()
        self._since = (self._since or now) if lacking else None
        if self._since is not None and now - self._since < _QUIET_S:
            return None
        text = _reason(lacking) if lacking else ""
        if text is None or text == self._said:
            return None
        self._said = text
        return text


def _reason(lacking: Sequence[Mapping[str, float]]) -> str | None:
    """None where there is room by now: they are about to be placed."""
    workers, need = len(lacking), Counter(lacking[0])
    if any(other != lacking[0] for other in lacking):
        workers, need = 1, sum(map(Counter, lacking), Counter())
    there = nodes()
    return None if room(there, need) >= workers else explain(workers, need, there, holders())


@contextmanager
def watched(tell: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """While the block gives Ray tasks of one CPU each: tells why none of them finds a place, from a thread of
    its own, as `{"event": "waiting", "for": …}`."""
    ends, patience, task = threading.Event(), Patience(), {"CPU": 1.0}

    def look() -> None:
        while not ends.wait(_LOOK_S):
            ray: Any = sys.modules.get("ray")
            if ray is None or not ray.is_initialized():
                continue  # it may be needed later, or never
            try:
                placed = room(nodes(), task) or "tasks" in holders().get("CPU", {})
                why = patience.news([] if placed else [task])
            except Exception:
                return  # what became of the cluster is the block's to say
            if why:
                tell({"event": "waiting", "for": why})

    thread = threading.Thread(target=look, name="capacity", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def holders() -> dict[str, dict[str, float]]:
    """Resource -> who holds how much of it, the largest first. Names are those that `hold` was given; what
    has none is called by its class. Running tasks are not known one by one: they are the rest, `tasks`."""
    from ray.core.generated import gcs_pb2

    held: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    classes: dict[str, str] = {}
    for raw in _state()._connect_and_get_accessor().get_actor_table(None, "ALIVE"):
        actor = gcs_pb2.ActorTableData.FromString(raw)
        if actor.placement_group_id:
            classes[_hex(actor.placement_group_id)] = actor.class_name
            continue  # what its group holds is counted below
        for resource, amount in actor.required_resources.items():
            if amount:
                held[resource][_name(actor.class_name, _hex(actor.job_id), "")] += amount
    for group in groups():
        name = _name(classes.get(group.id, "a reservation"), group.job, group.actor)
        for _, resources in group.bundles:
            for resource, amount in resources.items():
                held[resource][name] += amount
    alive = nodes()
    for resource in ("CPU", "GPU"):
        used = sum(node.total.get(resource, 0.0) - node.free.get(resource, 0.0) for node in alive)
        rest = used - sum(held[resource].values())
        if rest > _TINY:
            held[resource]["tasks"] = rest
    return {
        resource: dict(sorted(by.items(), key=lambda one: (-one[1], one[0]))) for resource, by in held.items()
    }


def hold(name: str) -> None:
    """What this actor reserves from now on (or this driver, and the actors of its job that have no name of
    their own) is said to be held by `name`, such as `run x`."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_put

    context = ray.get_runtime_context()
    who = context.get_actor_id() or context.get_job_id()
    _internal_kv_put(f"holder:{who}", name, namespace=_NAMESPACE)


def _name(kind: str, job: str, actor: str) -> str:
    from ray.experimental.internal_kv import _internal_kv_get

    if kind.startswith("ServeReplica:"):  # ServeReplica:<application>:<deployment>
        return "endpoint"
    for who in filter(None, (actor, job)):
        if name := _internal_kv_get(f"holder:{who}", namespace=_NAMESPACE):
            return str(name.decode())
    return kind


def _state() -> Any:
    import ray

    return ray._private.state.state


def _hex(raw: bytes) -> str:
    return "" if not raw or set(raw) == {255} else raw.hex()


def _count(amount: float, name: str) -> str:
    return f"{_short(amount)} {name}{'' if amount == 1 else 's'}"


def _short(amount: float) -> str:
    return f"{amount:.4g}"
