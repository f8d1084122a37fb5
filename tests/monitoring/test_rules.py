"""The rules and the dashboard, by the real promtool."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.metrics import exposition, process
from tests.unit.test_metrics import a_fleet

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "prometheus" / "rules.yml"
DASHBOARD = ROOT / "docs" / "grafana" / "gpu-orchestrator.json"
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text("utf-8"))["groups"]


def promtool(*arguments: str | Path, **options: Any) -> str:
    """Its output. Fails with that unless it has nothing to say against it."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def text() -> str:
    families = a_fleet({(2, "QUEUED"): 1}).families()
    gauges = {"gpuo_temporal_up": ("Temporal.", 1.0), "gpuo_streams": ("Streams.", 0.0)}
    return exposition.text([*families, *process.families("instance-001", gauges)]).decode()


def test_the_rules_do_what_they_say() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", Path(__file__).with_name("rules_test.yml"))


def test_each_rule_says_what_is_wrong_and_what_to_do() -> None:
    rules = [rule for group in GROUPS for rule in group["rules"]]
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "action"}
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    assert {rule["alert"] for rule in rules} == set(re.findall(r"`(Gpuo\w+)`", page))


def test_the_metrics_are_as_prometheus_wants_them() -> None:
    assert promtool("check", "metrics", input=text()) == ""


def expressions() -> list[str]:
    """The dashboard's expressions, for all types and a range of a minute."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [one.replace("$type", ".*").replace("$__rate_interval", "1m") for one in found]


def test_the_dashboard_asks_for_what_is_there(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(expressions())]
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
    promtool("check", "rules", file)
    asked = {*expressions(), *(rule["expr"] for group in GROUPS for rule in group["rules"])}
    names = {name for one in asked for name in re.findall(r"\b(?:gpuo|process)_\w+", one)}
    shown = set(re.findall(r"^(\w+)[{ ]", text(), re.MULTILINE))
    assert names <= shown


@pytest.mark.parametrize("name", sorted(set(re.findall(r"^# TYPE (\w+)", text(), re.MULTILINE))))
def test_the_page_names_each_metric(name: str) -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    assert name.startswith("process_") or f"`{name}`" in page
