"""The dashboard, the alerts and their page name only metrics that the service exports."""

import itertools
import json
import re
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from lookalike.service.observability.metrics import Metrics, Outcome, Reason
from tests.factories import ROOT

DOCS = ROOT / "docs"
OF_PROMETHEUS = {"instance", "job", "pid"}
"""Labels that Prometheus or its client adds."""


def exported() -> dict[str, set[str]]:
    """The names and labels of all samples, after each event has happened once."""
    metrics = Metrics()
    metrics.request("/search", 200, 0.001, rows=1)
    metrics.novelty(np.array([0.5]), 1)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return {name: labels for name, labels in found.items() if not name.endswith("_created")}


def families() -> set[str]:
    """The names of the metrics, without the endings of a histogram's samples."""
    return {re.sub("_(bucket|count|sum)$", "", name) for name in exported()}


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((DOCS / "grafana.json").read_text(encoding="utf-8"))
    return board


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((DOCS / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return panels + [rule["expr"] for rule in rules()]


def page() -> str:
    return (DOCS / "operations.md").read_text(encoding="utf-8")


def selected(expression: str) -> list[tuple[str, str]]:
    """Each metric of a PromQL expression, with the text in its braces."""
    return re.findall(r"\b(lookalike_\w+)(?:\{([^}]*)\})?", expression)


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_uses_what_is_exported(expression: str) -> None:
    known = exported()
    names = selected(expression)
    assert names or expression.startswith("up{")
    assert {name for name, _ in names} <= set(known)
    for name, condition in names:
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", condition)) <= known[name] | OF_PROMETHEUS
    grouped = {label for inner in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.split(r",\s*", inner)}
    assert grouped <= set.union(OF_PROMETHEUS, *(known[name] for name, _ in names))
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)


def test_documented_label_values_exist() -> None:
    given = " ".join(condition for expression in expressions() for _, condition in selected(expression))
    reasons = {one for text in re.findall(r'reason=~"([^"]*)"', given) for one in text.split("|")}
    assert reasons <= set(get_args(Reason))
    limits = set(re.findall(r'\ble="([^"]*)"', given))
    assert limits
    assert limits <= set(re.findall(r'lookalike_novelty_bucket\{le="([^"]*)"', Metrics().render().decode()))


def test_the_dashboard_shows_every_metric() -> None:
    shown = {re.sub("_(bucket|count|sum)$", "", name) for one in expressions() for name, _ in selected(one)}
    assert shown == families()


def test_the_dashboard_can_be_imported() -> None:
    board = dashboard()
    assert {"__inputs", "title", "uid", "schemaVersion", "templating", "time"} <= set(board)
    assert board["id"] is None
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert {panel["type"] for panel in board["panels"]} == {"stat", "timeseries", "heatmap"}
    assert all(panel["datasource"]["uid"] == "${DS_PROMETHEUS}" and panel["title"] for panel in board["panels"])
    for panel in board["panels"]:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0


def test_no_panels_overlap() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_has_a_severity_and_a_runbook(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+m", rule["for"])
    assert rule["labels"]["severity"] in {"page", "warn"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert f"\n### {rule['alert']}\n" in page()


def test_the_page_tells_of_every_metric_and_of_no_other() -> None:
    assert set(re.findall(r"`(lookalike_\w+)`", page())) == families()
    assert all(f"`{word}`" in page() for word in (*get_args(Reason), *get_args(Outcome)))
