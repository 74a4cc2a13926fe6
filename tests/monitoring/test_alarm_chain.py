"""A real drift reaches people, through every real part between; and nothing else does."""

from __future__ import annotations

import json
import os
import re
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from model_service.monitoring.gauges import COUNTERS
from model_service.monitoring.gauges import FAMILIES as GAUGES
from model_service.monitoring.memory import recall_drill
from model_service.prediction_log.store import open_store
from model_service.serving.metrics import FAMILIES
from tests.monitoring.alarm_chain import Chain, running_chain, wait_for
from tests.monitoring.test_rules import MONITORING, RULES
from tests.monitoring.watched_repository import MODEL, rows_like_training
from tests.rendering import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = 500
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with running_chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


def test_rows_like_those_of_training_raise_no_alarm_and_a_shift_raises_exactly_its_own(
    chain: Chain,
) -> None:
    for seed in range(4):
        chain.send(rows_like_training(WINDOW, seed=100 + seed), tell_truth=True)
        chain.wait_for_windows(seed + 1)
    wait_for(lambda: chain.query("model_service_performance"), "quality is scraped")
    assert chain.firing() == set()
    assert chain.webhook.received == []

    for seed in range(2):
        chain.send(rows_like_training(WINDOW, seed=200 + seed, broken="floor"))
        chain.wait_for_windows(5 + seed)
    wait_for(lambda: chain.webhook.received, "the alarm reaches the webhook")
    assert chain.firing() == {("FeatureDrift", MODEL, "1", "floor")}
    [(receiver, alert)] = chain.webhook.received
    assert receiver == "data-science"
    assert alert["labels"]["feature"] == "floor"
    assert (alert["labels"]["model"], alert["labels"]["version"]) == (MODEL, "1")
    assert alert["annotations"]["runbook_url"] == "docs/runbook.md#featuredrift"


def test_every_panel_shows_something_and_every_rule_asks_for_metrics_that_exist(
    chain: Chain,
) -> None:
    """After the drift above: its chain is the one that has something to show."""
    rows = rows_like_training(20, seed=9)
    chain.send([row | {"heating": "oil"} for row in rows])
    problem = 'model_service_input_problems_total{problem="unseen"}'
    wait_for(lambda: chain.query(problem), "what was unseen is scraped")
    texts = [path.read_text(encoding="utf-8") for path in [*RULES, *DASHBOARDS]]
    asked = set(re.findall(r"model_service_[a-z0-9_]+", " ".join(texts)))
    names = chain.client.get(chain.url("prometheus", "/api/v1/label/__name__/values"))
    known = {*names.json()["data"], *(f"model_service_{name}" for name in (*FAMILIES, *GAUGES))}
    known |= {f"model_service_{name}_total" for name in (*FAMILIES, *COUNTERS)}
    assert len(asked) > 35
    assert asked <= known

    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                asked_now = target["expr"].replace("$model", ".*").replace("$version", ".*")
                wait_for(
                    partial(chain.query, asked_now), f"{path.stem}, {panel['title']}: {asked_now}"
                )


def test_a_drill_goes_through_every_link_and_leaves_the_version_alone(chain: Chain) -> None:
    def drill(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            chain.command("monitor", "--drill", *arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env={**os.environ, "PYTHONPATH": str(ROOT / "template" / "src"), "NO_COLOR": "1"},
        )

    received = len(chain.webhook.received)
    held = drill("--seconds", "120")
    assert held.returncode == 0, held.stdout + held.stderr
    for link in ("service", "prediction log", "monitor", "Prometheus", "Alertmanager"):
        assert re.search(rf"✓ {link}: \d+\.\d s", held.stdout), held.stdout
    assert ("FeatureDrift", MODEL, "1-drill", "area") in chain.firing()
    assert len(chain.webhook.received) == received  # nobody wakes for a drill
    drilled = "model_service_monitor_last_drill_alarm_timestamp_seconds"
    wait_for(lambda: chain.query(drilled), "the drill is scraped")

    chain.processes["monitor"].terminate()
    chain.processes["monitor"].wait(30)
    broken = drill("--seconds", "8")
    assert broken.returncode == 1, broken.stdout + broken.stderr
    assert "✗ monitor: nothing within 8 s; the chain breaks here" in broken.stdout
    store = open_store("prediction_log", chain.repository.root)
    remembered = recall_drill(store)
    store.close()
    assert remembered is not None
    assert remembered.started_at > remembered.alarmed_at  # by which DrillFailed fires
