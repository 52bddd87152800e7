"""What of a cluster is free, and who holds the rest. Read from the cluster itself; no dashboard is needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_NAMESPACE = "penstock"
_TINY = 1e-6  # Ray counts in ten-thousandths


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
            parts.append(f"needs {_short(amount)} {name}s, {_short(free)} of {_short(total)} free{by}")
    if parts:
        return "; ".join(parts)
    each = " and ".join(f"{_short(need[name])} {name}s" for name in sorted(need))
    most = ", ".join(
        f"{_short(max((node.free.get(name, 0.0) for node in nodes), default=0.0))} {name}s"
        for name in sorted(need)
    )
    return f"needs {workers} times {each}, each on one node; free on one node: at most {most}"


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


def _short(amount: float) -> str:
    return f"{amount:.4g}"
