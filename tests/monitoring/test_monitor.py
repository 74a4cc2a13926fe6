"""What the monitor says of silence, and that one of them works at a time."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from model_service.hooks import load_hooks
from model_service.monitoring.gauges import Gauges, Seen, traffic_due_seconds
from model_service.monitoring.lease import Lease
from model_service.monitoring.memory import recall
from model_service.monitoring.monitor import Monitor
from model_service.monitoring.terminal_view import view
from model_service.prediction_log.store import open_store
from model_service.settings import read_settings
from tests.monitoring.alarm_chain import free_ports, wait_for
from tests.monitoring.watched_history import History
from tests.monitoring.watched_repository import MODEL, make_watched_repository, rows_like_training
from tests.rendering import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model_service.repository import Repository

DAY = 86_400.0
LONG_NAME = "flats_of_the_northern_region"
SERVICE_YAML = "name: small\nserver: {{port: {}, drain_seconds: 0}}\nmonitoring: {{port: {}}}\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    ports = free_ports(2)
    return make_watched_repository(tmp_path_factory.mktemp("monitor"), SERVICE_YAML.format(*ports))


def monitor_of(repository: Repository, told: list[str]) -> Monitor:
    hooks = load_hooks(repository.root, told.append)
    return Monitor(read_settings(repository, {}), repository, hooks, told.append)


def values(gauges: Gauges) -> dict[str, float]:
    """Return what a scrape says: a value by name and labels."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(gauges)
    lines = generate_latest(registry).decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name.removeprefix("model_service_"): float(value) for name, value in pairs}


def test_silence_grows_from_the_first_look_until_somebody_asks(repository: Repository) -> None:
    monitor = monitor_of(repository, [])
    of = f'{{model="{MODEL}",version="1"}}'
    began = time.time() - 5 * DAY
    monitor.run(began)
    silent = values(monitor.gauges)
    assert silent[f"traffic_age_seconds{of}"] > 4.9 * DAY
    assert silent[f"traffic_due_seconds{of}"] == DAY
    assert silent[f"ground_truth_age_seconds{of}"] > 4.9 * DAY
    assert silent[f"ground_truth_due_seconds{of}"] == 30 * DAY
    assert silent[f"model_max_age_seconds{of}"] == 365 * DAY

    history = History(repository, MODEL)
    history.write(rows_like_training(60, seed=5), time.time() - 60, target="price")
    history.monitor.run(time.time(), is_thorough=True)
    asked = values(history.monitor.gauges)
    assert asked[f"traffic_age_seconds{of}"] < 120
    assert asked[f"ground_truth_age_seconds{of}"] < 120
    assert asked[f"monitor_window_rows{of}"] == 60
    monitor.close()


def test_an_outage_is_not_taken_for_usual_for_ever(repository: Repository) -> None:
    history = History(repository, MODEL)
    began = time.time() + 200 * DAY
    due = {}
    for day in (*range(20), *range(23, 61)):
        history.write(rows_like_training(1, seed=day), began + day * DAY)
        history.monitor.run(began + day * DAY + 60)
        [seen] = history.monitor.gauges.seen
        due[day] = traffic_due_seconds(seen.watched, seen.memory, began + day * DAY)
    history.monitor.close()
    assert due[30] == 3 * DAY
    assert due[60] == pytest.approx(1.5 * DAY, rel=0.01)


def test_a_version_without_a_profile_is_told_and_hides_no_other(repository: Repository) -> None:
    profile = repository.root / "registry" / MODEL / "1" / "profile.json"
    kept = profile.read_bytes()
    profile.chmod(0o644)
    told: list[str] = []
    monitor = monitor_of(repository, told)
    try:
        profile.unlink()
        monitor.run(time.time())
        seen = values(monitor.gauges)
    finally:
        profile.write_bytes(kept)
        monitor.close()
    assert [n for n in seen if n.startswith("monitor_profile_info") and 'state="missing"' in n]


def test_of_two_monitors_one_works_and_the_other_says_why_it_does_not(
    repository: Repository,
) -> None:
    place = read_settings(repository, {}).stores.prediction_log
    mine, other = (open_store(place, repository.root) for _ in range(2))
    first = Lease(mine, 60)
    first.take()
    first.take()
    sources = str(ROOT / "template" / "src")
    command = [sys.executable, "-m", "model_service", "--repository", str(repository.root)]
    refused = subprocess.run(
        [*command, "monitor", "--once"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": sources},
    )
    assert refused.returncode == 2
    assert f"process {os.getpid()}" in " ".join(refused.stderr.split())
    first.give_back()
    second = Lease(other, 60)
    second.take()
    second.give_back()


def test_serve_with_monitor_runs_both_and_ends_both(repository: Repository, tmp_path: Path) -> None:
    log = (tmp_path / "log").open("wb")
    sources = str(ROOT / "template" / "src")
    command = [sys.executable, "-m", "model_service", "--repository", str(repository.root)]
    began = time.time()
    service = subprocess.Popen(
        [*command, "serve", "--with-monitor"],
        stdout=log,
        stderr=log,
        env={**os.environ, "PYTHONPATH": sources},
    )
    store = open_store("prediction_log", repository.root)
    try:
        wait_for(lambda: recall(store, MODEL, "1").last_run > began, "the monitor looks")
    finally:
        service.terminate()
        assert service.wait(60) == 0
    lease = Lease(store, 60)
    lease.take()  # nobody holds it any more
    lease.give_back()


def test_dependence_is_watched_by_a_week_where_a_day_has_few_rows(repository: Repository) -> None:
    history = History(repository, MODEL)
    end = time.time() + 60 * DAY
    chance = np.random.default_rng(3)
    for day in range(6):
        rows = rows_like_training(90, seed=700 + day)
        rooms = chance.permutation([row["rooms"] for row in rows]).tolist()
        history.write([r | {"rooms": n} for r, n in zip(rows, rooms, strict=True)], end - day * DAY)
    history.monitor.run(end + 60, is_thorough=True)
    memory = recall(history.store, MODEL, "1")
    assert [alarm.kind for alarm in memory.open_alarms] == ["dependence"]
    assert "rooms" in memory.broken[0][:2]
    assert not memory.joint_left_out
    assert "not watched" not in terminal(history.monitor.gauges.seen)
    logged = list(history.store.rows(MODEL, "1", end - 6 * DAY, end + 60))
    for weeks, stored, told in (
        (3, {"rooms", "area", "age"}, "how floor, noise, heating and other features depend"),
        (6, set[str](), "how features depend on each other is not watched"),
    ):
        later = [
            msgspec.structs.replace(
                row,
                prediction_id=f"{weeks} {row.prediction_id}",
                at=row.at + weeks * 7 * DAY,
                used={name: row.used[name] for name in stored} if stored and row.used else None,
            )
            for row in logged
        ]
        history.store.append(later)
        history.monitor.run(end + weeks * 7 * DAY + 60, is_thorough=True)
        memory = recall(history.store, MODEL, "1")
        assert not history.monitor.gauges.errors
        found = [alarm for alarm in memory.open_alarms if alarm.kind == "dependence"]
        assert bool(found) == bool(stored), "what is stored is watched"
        assert told in " ".join(terminal(history.monitor.gauges.seen).split())
    history.monitor.close()


def terminal(seen: Sequence[Seen]) -> str:
    """Return what a terminal of 80 columns shows of versions, their model by a long name."""
    console = Console(width=80, record=True, file=io.StringIO())
    watched = [msgspec.structs.replace(one.watched, model=LONG_NAME) for one in seen]
    console.print(view([Seen(w, s.memory) for w, s in zip(watched, seen, strict=True)], {}))
    return console.export_text()


def test_a_terminal_of_80_columns_cuts_no_name(repository: Repository) -> None:
    monitor = monitor_of(repository, [])
    monitor.run(time.time())
    shown = terminal(monitor.gauges.seen)
    monitor.close()
    assert f"{LONG_NAME} 1" in shown
    assert "\u2026" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_watch_says_that_no_monitor_runs_and_what_to_start(repository: Repository) -> None:
    ours, theirs = pty.openpty()  # what a terminal is shown is shown at once
    sources = str(ROOT / "template" / "src")
    command = [sys.executable, "-m", "model_service", "--repository", str(repository.root)]
    watching = subprocess.Popen(
        [*command, "monitor", "--watch"],
        stdout=theirs,
        env={**os.environ, "PYTHONPATH": sources, "COLUMNS": "200", "LINES": "50", "TERM": "xterm"},
    )
    lease = Lease(open_store("prediction_log", repository.root), 600)

    def newest_line() -> str:
        shown = os.read(ours, 65_536) if select.select([ours], [], [], 5)[0] else b""
        return shown.decode(errors="ignore").rpartition("ooked at")[2]

    try:
        wait_for(lambda: "No monitor runs: start `small monitor`" in newest_line(), "it is told")
        lease.take()
        wait_for(lambda: "No monitor" not in newest_line(), "the monitor that runs is seen")
    finally:
        lease.give_back()
        watching.terminate()
        watching.wait(60)
