"""The alert rules: right by promtool, seen firing and silent, owned, routed and explained."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from model_service.registry.manifest import SMALLER_IS_BETTER
from tests.debian import program
from tests.rendering import ROOT

if TYPE_CHECKING:
    from pathlib import Path

MONITORING = ROOT / "template" / "monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yaml"))
RULE_TESTS = sorted((MONITORING / "rules" / "tests").glob("*.yaml"))
RUNBOOK = ROOT / "template" / "docs" / "runbook.md"


def rules() -> list[dict[str, Any]]:
    """Every rule of every file."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    return [
        rule for document in documents for group in document["groups"] for rule in group["rules"]
    ]


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def run(*command: str | Path) -> str:
    """Run a program and return what it printed; the test fails if it did."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_promtool_accepts_every_rule_and_the_configuration() -> None:
    checked = run(program("promtool"), "check", "rules", *RULES)
    assert checked.count("SUCCESS") == len(RULES) >= 3
    run(program("promtool"), "check", "config", MONITORING / "prometheus.yaml")


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_the_unit_tests_of_the_rules_hold(path: Path) -> None:
    assert "SUCCESS" in run(program("promtool"), "test", "rules", path)


def test_every_alert_is_seen_firing_and_seen_silent() -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for path in RULE_TESTS:
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for expected in case["alert_rule_test"]:
                (fires if expected.get("exp_alerts") else silent).add(expected["alertname"])
    assert len(alerts()) > 25
    assert fires == set(alerts())
    assert silent == set(alerts())


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_how_bad_it_is_whose_it_is_and_what_to_do(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["labels"]["owner"] in ("data-science", "devops")
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
    section = re.search(
        rf"^## {name}$(.*?)(?=^## |\Z)", RUNBOOK.read_text(encoding="utf-8"), re.M | re.S
    )
    assert section, f"{RUNBOOK} has no section ## {name}"
    for part in ("Symptom", "Query", "Action", "Rollback"):
        assert f"**{part}.** " in section[1], part


def test_the_runbook_has_no_section_without_an_alert() -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.M)
    assert set(headings) == set(alerts())


def test_rules_know_for_which_metrics_less_is_better() -> None:
    stated = re.findall(r'metric!?=~"([^"]+)"', (MONITORING / "rules/models.yaml").read_text())
    assert stated
    assert {frozenset(names.split("|")) for names in stated} == {SMALLER_IS_BETTER}


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("owner=data-science", "severity=page"), "data-science"),
        (("owner=data-science", "severity=ticket"), "data-science"),
        (("owner=devops", "severity=page"), "devops"),
        (("owner=devops", "severity=ticket"), "devops"),
        (("owner=data-science", "severity=page", "version=3-drill"), "drill"),
        (("owner=nobody",), "data-science"),
    ],
)
def test_alertmanager_routes_by_owner_and_lets_nobody_wake_for_a_drill(
    default_service: Path, labels: tuple[str, ...], receiver: str
) -> None:
    path = default_service / "monitoring" / "alertmanager.yaml"
    run(program("amtool"), "check-config", path)
    routed = run(program("amtool"), "config", "routes", "test", f"--config.file={path}", *labels)
    assert routed.split() == [receiver]
