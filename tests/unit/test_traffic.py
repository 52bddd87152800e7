"""Who answers which request: shares, sticky clients, names that mean one version."""

from __future__ import annotations

import json

import pytest

from penstock.serving.problems import Problem
from penstock.serving.served import Served
from penstock.serving.versions.traffic import Traffic, Way


def served(version: int, *aliases: str, name: str = "probe") -> Served:
    return Served(name, version, aliases, {"workload": "probe"})


def split(share: float) -> Traffic:
    ways = (
        Way("model-probe-a", served(1, "live"), 1 - share),
        Way("model-probe-b", served(2, "candidate"), share),
    )
    return Traffic(5, (*ways, Way("model-other-a", served(7, "live", name="other"))))


def test_a_candidate_gets_its_share_of_the_clients() -> None:
    traffic = split(0.1)
    chosen = [traffic.choose("probe", f"client-{i}").model.version for i in range(20_000)]
    assert 0.09 < chosen.count(2) / len(chosen) < 0.11  # 5 standard deviations are 0.0106


def test_a_client_stays_with_the_candidate_while_its_share_grows() -> None:
    before: set[int] = set()
    for share in (0.1, 0.25, 0.6, 0.9):
        traffic = split(share)
        now = {i for i in range(2000) if traffic.choose("probe", f"client-{i}").model.version == 2}
        assert before < now
        before = now
    assert all(split(0.3).choose("probe", "me") == split(0.3).choose("probe", "me") for _ in range(10))


@pytest.mark.parametrize(
    ("reference", "version"),
    [("probe@1", 1), ("probe@2", 2), ("probe@live", 1), ("probe@candidate", 2), ("probe", 1), ("other", 7)],
)
def test_a_version_or_alias_means_that_version_whoever_asks(reference: str, version: int) -> None:
    client = None if reference == "probe" else "client-7"
    assert split(0.5).choose(reference, client).model.version == version


@pytest.mark.parametrize("reference", ["probe@3", "probe@blue", "probes", "", "@", "../probe", "x" * 300])
def test_what_is_not_served_is_404_and_what_is_served_is_listed(reference: str) -> None:
    with pytest.raises(Problem, match="served: probe@1, probe@2, other@7") as error:
        split(0.5).choose(reference, "c")
    assert error.value.status == 404 and "x" * 65 not in error.value.detail


def test_a_name_without_a_version_yet_is_503_and_says_when_to_come_again() -> None:
    with pytest.raises(Problem, match="is being loaded") as error:
        Traffic(0, (), ("probe@3",)).choose("probe", "c")
    assert error.value.status == 503 and error.value.headers["Retry-After"] == "1"


def test_it_travels_as_json_and_its_number_grows_only_with_a_change() -> None:
    traffic = split(0.25)
    assert Traffic.of(json.loads(json.dumps(traffic.plain()))) == traffic
    assert traffic.after(traffic.ways, traffic.waiting) is traffic
    changed = traffic.after(traffic.ways[:1], ["other"])
    assert changed.number == 6 and changed.waiting == ("other",)
    assert [way.model.title for way in traffic.firsts()] == ["probe@1", "other@7"]
