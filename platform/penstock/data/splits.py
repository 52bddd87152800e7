"""Which items train, which validate, which test: by the source's own convention, else by a seeded hash.

The hash is of the name of the item (or of its group, which is never cut), so an item stays in its split when
others are added (but for sets of a handful, where the hash alone could leave a split empty).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from penstock.data.order import chance, hash_split
from penstock.errors import DataError
from penstock.workload import Item

Split = Literal["train", "validation", "test"]
Use = Literal["train", "evaluate"]
TEST_SHARE = 0.2
FEWEST = 5
"""From so many items on, every split has at least one."""


def assign(
    items: Sequence[Item], seed: int, validation_share: float, keep: Collection[str] = ()
) -> dict[str, Split]:
    """Item name -> split, for training. Items without a split of their own go to test by hash;
    validation is cut from train, unless the source marks its own. `keep`: names that must train, if the
    source does not say otherwise. DataError when nothing is left to train on."""
    group = {item.name: item.group or item.name for item in items}
    must = {group[name] for name in keep if name in group}
    test = {item.name for item in items if item.split == "test"}
    validation = {item.name for item in items if item.split == "validation"}
    free = [item.name for item in items if not item.split and group[item.name] not in must]
    if not test and not free:
        # a source that only marks what trains: a model must still be tested on something
        free = [i.name for i in items if i.name not in validation and group[i.name] not in must]
    drawn = _cut(_groups(free, group), TEST_SHARE, seed, "test", not test and len(items) >= FEWEST)
    test |= {name for name in free if group[name] in drawn}
    train = [item.name for item in items if item.name not in test and item.name not in validation]
    if not train:
        raise DataError(f"no items to train on: all {len(items)} are marked as test or validation")
    if not validation:
        loose = [name for name in train if group[name] not in must]
        drawn = _cut(_groups(loose, group), validation_share, seed, "validation", len(items) >= FEWEST)
        validation = {name for name in loose if group[name] in drawn}
    return {
        item.name: "test" if item.name in test else "validation" if item.name in validation else "train"
        for item in items
    }


def assign_for_evaluation(items: Sequence[Item]) -> dict[str, Split]:
    """Item name -> "test": the items that the source marks so, else every item."""
    marked = [item for item in items if item.split == "test"] or items
    return {item.name: "test" for item in marked}


def _groups(names: Sequence[str], group: Mapping[str, str]) -> list[str]:
    """The groups of `names`, each once, in their order."""
    return list(dict.fromkeys(group[name] for name in names))


def _cut(names: Sequence[str], share: float, seed: int, purpose: str, at_least_one: bool) -> set[str]:
    if share <= 0 or not names:
        return set()
    cut = sorted((name for name in names if hash_split(name, share, seed, purpose)), key=_by(seed, purpose))
    if not cut and at_least_one:
        cut = [min(names, key=_by(seed, purpose))]
    # a handful of names can all fall on one side: half of the other side's share is left to it
    most = len(names) - max(1, round((1 - share) * len(names) / 2))
    return set(cut[:most])


def _by(seed: int, purpose: str) -> Callable[[str], tuple[float, str]]:
    return lambda name: (chance(name, seed, purpose), name)
