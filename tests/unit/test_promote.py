"""`penstock promote`: what may be live, and what is told to whom may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock import promote, registry
from penstock.errors import ModelError
from penstock.store import Store
from tests import probe


def test_a_worse_version_is_not_promoted_unless_it_is_forced(store: Store) -> None:
    probe.publish(store, right=180)
    probe.publish(store, right=100)
    with pytest.raises(ModelError, match=r"probe@2 is not promoted: its accuracy is 0\.5, .* --force"):
        promote("probe", 2, store=store)
    assert registry.aliases(store, "probe")["live"] == 1
    promote("probe", 2, store=store, force=True)
    standing = registry.standing(store, "probe")
    assert standing.aliases["live"] == 2 and standing.forced == {2}
    promote("probe", 1, store=store)
    assert registry.standing(store, "probe").aliases["live"] == 1


@pytest.mark.parametrize(("scale", "why"), [(0.0, "a scale of zero"), (-1.0, "nothing will do")])
def test_a_version_that_does_not_answer_is_not_promoted(store: Store, scale: float, why: str) -> None:
    probe.publish(store)
    probe.publish(store, scale=scale)
    with pytest.raises(ModelError, match=why):
        promote("probe", 2, store=store, force=True)
    assert registry.aliases(store, "probe")["live"] == 1
    promote("probe", 2, "blue", store=store)  # a name that nobody follows says nothing


def test_a_candidate_with_a_share_is_judged_as_one_that_goes_live(store: Store) -> None:
    probe.publish(store, right=180)
    probe.publish(store, right=100)
    with pytest.raises(ModelError, match="not promoted"):
        promote("probe", 2, "candidate", share=0.1, store=store)
    probe.publish(store, right=185)
    promote("probe", 3, "candidate", share=0.1, store=store)
    assert registry.standing(store, "probe").shares == {"candidate": 0.1}
    probe.publish(store, right=185)
    assert registry.standing(store, "probe").shares == {}, "a share is one version's"


def test_the_verb_says_what_it_did(cli: Any, tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    probe.publish(store, right=180)
    probe.publish(store, right=181)
    done = cli("promote", "probe", "2", "candidate", "--share", "10%", "--store", str(tmp_path))
    assert done.code == 0 and "probe@candidate is version 2, with 10% of the requests" in done.out
    registry.withdraw(store, "probe", "candidate", 2, None, "it computes 900 ms a request")
    listed = cli("models", "--store", str(tmp_path))
    assert "withdrawn: it computes 900 ms a request" in listed.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("candidate", "--share", "ten"), "--share 'ten' is no part of the requests"),
        (("candidate", "--share", "100%"), "above 0% and below 100%"),
        (("live", "--share", "10%"), "a share is above 0 and below 1, and for candidate"),
        (("3",), "'3' cannot be an alias"),
        (("live", "--wait", "nowhere"), "is not the URL of an endpoint"),
        (("live", "--wait", "http://127.0.0.1:9"), "no endpoint answers at http://127.0.0.1:9"),
    ],
)
def test_what_the_verb_cannot_do_is_one_line(
    cli: Any, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    store = Store.open(tmp_path)
    for _ in range(2):
        probe.publish(store)
    before = registry.aliases(store, "probe")
    done = cli("promote", "probe", "2", *words, "--store", str(tmp_path))
    assert done.code == 2 and says in done.err and len(done.err.splitlines()) == 1
    assert registry.aliases(store, "probe") == before, "it moved all the same"
