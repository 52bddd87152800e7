"""The public conformance test: does a workload keep the contract of penstock.workload?

`penstock check NAME` runs it on an installed workload; in a test of your own:

    failed = [check for check in check_workload(workload, store) if not check.passed]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penstock.errors import PenstockError
from penstock.store import Store
from penstock.testing import contract, learning
from penstock.testing.subject import Subject
from penstock.workload import Workload


@dataclass(frozen=True)
class Check:
    """One promise of the contract, and whether it is kept. `why`: what is wrong, "" where nothing is."""

    name: str
    passed: bool
    why: str = ""


def check_workload(workload: Workload[Any], store: Store) -> list[Check]:
    """Every promise of the contract, tried on the synthetic source with the smoke preset; in this process,
    in about the time one epoch takes."""
    subject = Subject(workload, store)
    return [attempt(name, try_it, subject) for name, try_it in CHECKS.items()]


def attempt(name: str, try_it: Callable[[Subject], None], subject: Subject) -> Check:
    """Calls `try_it`; whatever it raises is the finding."""
    try:
        try_it(subject)
    except Exception as error:  # a stranger's code may raise anything
        said = " ".join(str(error).split())[:300]
        plainly = isinstance(error, AssertionError | PenstockError) and said
        return Check(name, False, said if plainly else f"{type(error).__name__}: {said}")
    return Check(name, True)


CHECKS: dict[str, Callable[[Subject], None]] = {
    "the fields are as the contract says": contract.fields,
    "presets and search space fit the config": contract.presets,
    "every reference resolves": contract.references,
    "request and answer have working examples": contract.examples,
    "the synthetic source scans the same twice": contract.scans,
    "the synthetic source prepares": contract.prepares,
    "collate draws only from the items' generators, and takes no items too": contract.collates,
    "every parameter is moved by exactly one objective": learning.covers,
    "a loss is deterministic and finite": learning.repeats,
    "one step moves the weights": learning.moves,
    "micro-batches change nothing": learning.cuts,
    "weights travel through safetensors": learning.travels,
    "the example request is answered": learning.answers_examples,
    "an answer does not depend on the rest of its batch": learning.independent,
    "a bad request is refused and spoils nothing": learning.refuses,
    "records and metrics are well-formed": learning.scores,
    "what it exports is what it answers with": learning.exports,
}
