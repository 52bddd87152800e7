"""deploy/alerts.yaml asks for metrics and labels that exist: of the endpoint, and of a Ray that runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from penstock.serving.metrics import Metrics
from tests.cluster.serving import wait_until
from tests.promql import asked

FILE = Path(__file__).resolve().parents[2] / "deploy" / "alerts.yaml"
SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ", re.MULTILINE)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def samples(text: str) -> dict[str, set[str]]:
    """name -> labels, of a page in the exposition format."""
    found: dict[str, set[str]] = {}
    for name, labels in SAMPLE.findall(text):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def missing(exported: dict[str, set[str]], prefix: str) -> list[str]:
    """What the rules ask of `prefix`… that is not exported."""
    wrong = []
    for rule in rules():
        ask = asked(rule["expr"])
        for metric, labels in ask.metrics.items():
            if metric.startswith(prefix):
                said = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
                lacking = (labels | ask.grouped | said) - exported.get(metric, set())
                if metric not in exported or lacking:
                    wrong.append(f"{rule['alert']}: {metric} {sorted(lacking)}")
    return wrong


def test_the_parser_of_expressions_finds_names_and_labels() -> None:
    found = asked('sum by (le, m) (rate(a_b{x="sum(c)",y=~"5.."}[5m])) / max(d:e) > 0.5 and absent(f)')
    assert found.metrics == {"a_b": {"x", "y"}, "d:e": set(), "f": set()} and found.grouped == {"le", "m"}
    with pytest.raises(ValueError, match="brackets"):
        asked("sum(a")


def test_every_rule_is_whole() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 8
    for rule in rules():
        assert (
            {"alert", "expr", "labels", "annotations"}
            <= rule.keys()
            <= {
                "alert",
                "expr",
                "for",
                "labels",
                "annotations",
            }
        )
        assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"]
        metrics = asked(rule["expr"]).metrics
        assert metrics and all(name.startswith(("penstock_", "ray_")) for name in metrics), rule["alert"]


def test_the_endpoint_exports_what_the_rules_ask_for() -> None:
    metrics = Metrics()
    metrics.count("pathology@1", 200, 0.1)
    metrics.in_flight("pathology@1", 1)
    metrics.watch(lambda: 1)
    assert missing(samples(metrics.text().decode()), "penstock_") == []
    assert missing({}, "penstock_"), "the check finds nothing missing where nothing is there"


def test_a_running_ray_exports_what_the_rules_ask_for(ray_session: None) -> None:
    import ray

    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    found: dict[str, set[str]] = {}

    def complete() -> bool:
        # a node reports every few seconds what it has gathered
        found.update(samples(httpx.get(url, trust_env=False, timeout=30).text))
        return not missing(found, "ray_")

    try:
        wait_until(complete)
    except AssertionError:
        assert missing(found, "ray_") == []
        raise
