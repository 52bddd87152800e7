"""Who may ask, and how often."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import PenstockError
from penstock.serving.problems import Problem
from penstock.serving.web import access
from penstock.serving.web.access import Keyring, allowed
from penstock.serving.web.address import address_of
from penstock.serving.web.guard import Guard
from penstock.serving.web.rates import Rates
from penstock.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def bearer(secret: str) -> str:
    return f"Bearer {secret}"


def test_a_key_is_kept_as_a_hash_in_a_file_that_only_its_owner_reads(store: Store) -> None:
    key, secret = access.add(store, "predict", "the app", 5)
    path = access.path_of(store)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in path.read_text() and key.sha256 in path.read_text()
    assert access.keys(store) == [key] and len(secret) > 40


def test_a_keyring_knows_keys_as_they_come_and_go(store: Store) -> None:
    now = 0.0
    ring = Keyring(access.path_of(store), lambda: now)
    key, secret = access.add(store)
    now = 1.0
    assert ring.key(bearer(secret)).id == key.id == ring.key("bearer " + secret).id
    other, second = access.add(store, "admin")
    access.revoke(store, key.id)
    now = 2.0
    with pytest.raises(Problem) as revoked:
        ring.key(bearer(secret))
    with pytest.raises(Problem) as unknown:
        ring.key(bearer("pk_nobody"))
    assert (revoked.value.status, revoked.value.detail) == (401, unknown.value.detail)
    assert revoked.value.headers == {"WWW-Authenticate": "Bearer"}
    assert ring.key(bearer(second)).id == other.id


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer {}x", "Bearer é{}"]
)
def test_anything_but_the_whole_key_is_401(store: Store, shown: str | None) -> None:
    _, secret = access.add(store)
    with pytest.raises(Problem) as error:
        Keyring(access.path_of(store)).key(shown.format(secret) if shown else shown)
    assert error.value.status == 401 and secret not in error.value.detail


def test_a_damaged_list_of_keys_lets_nobody_in_and_is_named_to_its_owner(store: Store) -> None:
    _, secret = access.add(store)
    now = 0.0
    ring = Keyring(access.path_of(store), lambda: now)
    ring.key(bearer(secret))
    access.path_of(store).write_text("{")
    now = 1.0
    with pytest.raises(Problem):
        ring.key(bearer(secret))
    with pytest.raises(PenstockError, match=r"keys\.json .* damaged"):
        access.keys(store)


def test_revoking_a_key_that_is_not_there_lists_those_that_are(store: Store) -> None:
    key, _ = access.add(store)
    with pytest.raises(PenstockError, match=f"no key 'x'; known: {key.id}"):
        access.revoke(store, "x")


def test_scopes(store: Store) -> None:
    predict, admin = access.add(store)[0], access.add(store, "admin")[0]
    allowed(predict, "predict"), allowed(admin, "predict"), allowed(admin, "admin")
    with pytest.raises(Problem, match="is for predict") as error:
        allowed(predict, "admin")
    assert error.value.status == 403
    with pytest.raises(PenstockError, match="predict or admin"):
        access.add(store, "root")


def test_an_address_that_others_reach_needs_keys() -> None:
    assert address_of("localhost", False) == ("127.0.0.1", True)
    assert address_of("::1", False) == ("::1", True)
    assert address_of("0.0.0.0", True) == ("0.0.0.0", False)
    with pytest.raises(PenstockError, match="penstock keys add"):
        address_of("0.0.0.0", False)
    with pytest.raises(PenstockError, match="not an IP address"):
        address_of("example.org", True)


def test_a_bucket_gives_its_rate_and_says_when_to_come_again() -> None:
    now = 0.0
    rates = Rates(lambda: now)
    passed = 0
    for tick in range(1000):  # ten seconds of a hundred requests a second
        now = tick / 100
        try:
            rates.take("me", 10)
            passed += 1
        except Problem as problem:
            assert problem.status == 429 and problem.headers["Retry-After"] == "1"
    assert passed == 20 + 99  # what had been saved, and ten a second since
    rates.take("you", 10)
    with pytest.raises(Problem) as error:
        for _ in range(3):
            rates.take("rare", 0.1)
    assert error.value.headers["Retry-After"] == "10"


def connection(path: str, secret: str = "", method: str = "POST") -> dict[str, Any]:
    headers = [(b"authorization", f"Bearer {secret}".encode())] if secret else []
    return {"path": path, "method": method, "headers": headers, "client": ("10.0.0.1", 1), "state": {}}


def test_a_guard_asks_for_keys_where_it_has_to(store: Store) -> None:
    key, secret = access.add(store)
    _, admin = access.add(store, "admin")
    guard = Guard(Keyring(access.path_of(store)), rate=100)
    for path in ("/healthz", "/v2/health/live", "/v2/health/ready", "/", "/static/page.css"):
        guard.admit(connection(path, method="GET"))
    for path in ("/v1/models", "/metrics", "/docs", "/openapi.json", "/healthz/", "/v1/models/probe/predict"):
        with pytest.raises(Problem) as error:
            guard.admit(connection(path))
        assert error.value.status == 401, path
    with pytest.raises(Problem) as error:
        guard.admit(connection("/metrics", secret, "GET"))
    assert error.value.status == 403
    guard.admit(connection("/metrics", admin, "GET"))
    came = connection("/v1/models/probe/predict", secret)
    guard.admit(came)
    assert came["state"]["client"] == key.id


def test_a_key_may_have_a_rate_of_its_own(store: Store) -> None:
    _, slow = access.add(store, rate=1)
    _, other = access.add(store)
    guard = Guard(Keyring(access.path_of(store)), rate=1000)
    for _ in range(50):
        guard.admit(connection("/v1/models/probe/predict", other))
    with pytest.raises(Problem) as error:
        for _ in range(3):
            guard.admit(connection("/v1/models/probe/predict", slow))
    assert error.value.status == 429
    assert json.loads(access.path_of(store).read_text())["keys"][0]["rate"] == 1


# ---------------------------------------------------------------- the verb


def test_a_key_is_shown_once(cli: Any) -> None:
    made = cli("keys", "add", "--scope", "admin", "--note", "mine", "--json")
    secret = made.json["key"]
    assert secret.startswith("pk_") and made.json["keys"][0]["scope"] == "admin"
    listed = cli("keys", "--json")
    assert secret not in listed.out and listed.json["keys"][0]["note"] == "mine"
    gone = cli("keys", "revoke", made.json["id"], "--json")
    assert gone.json["keys"][0]["revoked"] is True


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("revoke",), "keys revoke: which one?"),
        (("add", "x"), "keys add: takes no ID"),
        (("revoke", "x"), "no key 'x'; known: none"),
        (("add", "--scope", "root"), "--scope"),
    ],
)
def test_what_keys_cannot_do_is_one_line(cli: Any, words: tuple[str, ...], says: str) -> None:
    done = cli("keys", *words)
    assert done.code == 2 and says in done.err and len(done.err.splitlines()) == 1
