"""What `serve deploy` is given: the settings of deploy/serve.yaml, and who may reach what it starts."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from penstock.errors import ModelError, PenstockError
from penstock.serving.on_ray import application
from penstock.serving.on_ray.application import Settings, build
from penstock.serving.web import access
from penstock.store import Store
from tests import probe

FILE = Path(__file__).resolve().parents[2] / "deploy" / "serve.yaml"


@pytest.fixture
def listens(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the address that Serve says it listens at."""

    def at(host: str) -> None:
        client = SimpleNamespace(http_config=SimpleNamespace(host=host))
        monkeypatch.setattr(application, "_get_global_client", lambda: client)
        monkeypatch.setattr(application.slots, "size_of", lambda models, replicas: application.Size(replicas))

    return at


def bound(app: Any) -> tuple[Any, ...]:
    """The arguments of the gateway."""
    arguments: tuple[Any, ...] = app._bound_deployment.init_args
    return arguments


def test_serve_makes_settings_of_the_args() -> None:
    """It looks at the annotation itself, which must be the class and not its name."""
    (args,) = inspect.signature(build).parameters.values()
    assert args.annotation is Settings
    with pytest.raises(ValidationError, match="replcas"):
        Settings.model_validate({"replcas": 2})


def test_every_setting_of_the_file_exists_those_in_comments_too() -> None:
    text = FILE.read_text(encoding="utf-8")
    (application,) = yaml.safe_load(re.sub(r"^(\s+)# (\w+: \S)", r"\1\2", text, flags=re.M))["applications"]
    assert Settings.model_validate(application["args"])
    assert application["args"].keys() == Settings.model_fields.keys()
    (application,) = yaml.safe_load(text)["applications"]
    assert application["import_path"] == f"{build.__module__}:{build.__name__}"


def test_beyond_loopback_there_have_to_be_keys_and_clients_show_them(store: Store, listens: Any) -> None:
    probe.publish(store)
    settings = Settings(store=str(store.root))
    listens("127.0.0.1")
    assert bound(build(settings))[1] is None
    assert bound(build(settings.model_copy(update={"keys": True})))[1] == store.url
    listens("0.0.0.0")
    with pytest.raises(PenstockError, match=r"http_options: host: 0\.0\.0\.0 can be reached"):
        build(settings)
    key, _ = access.add(store)
    assert bound(build(settings))[1] == store.url
    access.revoke(store, key.id)
    with pytest.raises(PenstockError, match="no access keys"):
        build(settings)


def test_nothing_to_serve_is_said_before_anything_is_deployed(store: Store, listens: Any) -> None:
    listens("127.0.0.1")
    with pytest.raises(ModelError, match="no model is live"):
        build(Settings(store=str(store.root)))
