"""The dashboard, the alert rules and their page name metrics that exist, and every metric is on the dashboard."""

import json
import re
from pathlib import Path
from typing import Any

from quart_async_api.observability.metric_names import METRICS, Kind
from quart_async_api.services import attention
from tests import promtool

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "deploy" / "observability"
ALERTS = (FOLDER / "alerts.yml").read_text("utf-8")
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
PAGE = (CHECKOUT / "docs" / "how-to" / "watch.md").read_text("utf-8")

EXISTING = {
    metric.name + ending
    for metric in METRICS
    for ending in (("", "_bucket", "_count", "_sum") if metric.kind is Kind.HISTOGRAM else ("",))
}


def named(text: str) -> set[str]:
    return set(re.findall(r"\bqaa_\w+", text))


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_a_rule_a_panel_and_the_page_name_metrics_that_exist() -> None:
    for text in (ALERTS, PAGE, *expressions()):
        assert named(text) <= EXISTING


def test_the_labels_that_a_rule_or_a_panel_asks_for_exist() -> None:
    labels = {metric.name: {*metric.labels, "instance", "le"} for metric in METRICS}
    for text in (*re.findall(r"expr: (?:>-\n)?(.*?)\n +(?:for|labels):", ALERTS, re.DOTALL), *expressions()):
        allowed = set.union(*(labels[re.sub(r"_(bucket|count|sum)$", "", name)] for name in named(text)))
        asked = {name.strip() for group in re.findall(r"by \(([^)]*)\)", text) for name in group.split(",")}
        asked |= set(re.findall(r"[{,]\s*(\w+)=", text))
        assert asked <= allowed, text
    kinds = set(re.findall(r'kind="([^"]+)"', ALERTS))
    assert kinds < {kind.value for kind in attention.Kind}


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for text in expressions() for name in named(text)}
    assert shown == {metric.name for metric in METRICS}


def test_the_page_says_what_to_do_for_each_alert() -> None:
    alerts = re.findall(r"alert: (\w+)", ALERTS)
    assert len(alerts) > 10
    assert re.findall(r"(?m)^### (\w+)$", PAGE) == alerts


def test_promtool_finds_no_fault_in_the_rules() -> None:
    promtool.check("rules", str(FOLDER / "alerts.yml"))
