"""The monitor over a history, and the report that it leads to."""

from __future__ import annotations

import io
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rich.console import Console

from model_service.drift.counts import Counts
from model_service.monitoring.memory import Alarm, VersionMemory, recall
from model_service.monitoring.report import report_page
from model_service.monitoring.terminal_view import seen_versions, view
from model_service.monitoring.windows import close_window, pending_counts
from model_service.prediction_log.records import LoggedCounts
from model_service.registry.profile import FeatureCounts
from model_service.registry.registry import Registry
from model_service.settings import read_settings
from tests.debian import program
from tests.monitoring.watched_history import History
from tests.monitoring.watched_repository import MODEL, make_watched_repository, rows_like_training

if TYPE_CHECKING:
    from pathlib import Path

    from model_service.repository import Repository

MEETING = """<script>
const overlap = (a, b) =>
  a.left < b.right && b.left < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom
const meeting = [...document.querySelectorAll("svg")].flatMap(svg => {
  const texts = [...svg.querySelectorAll("text")]
  const boxes = texts.map(t => [t.firstChild.data, t.getBoundingClientRect()])
  return boxes.flatMap(([a, x], i) =>
    boxes.slice(i + 1).filter(([, y]) => overlap(x, y)).map(([b]) => a + " / " + b))
})
document.title = meeting.join("; ") || "no words meet"
</script>"""
QUIET_HOURS = 3
HOURS = 6


def rows_of(hour: int) -> list[dict[str, Any]]:
    drifts = hour >= QUIET_HOURS
    rows = rows_like_training(600, seed=300 + hour, broken="area" if drifts else None)
    return [row | {"age": None} if drifts and i % 8 == 0 else row for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    root = tmp_path_factory.mktemp("report")
    repository = make_watched_repository(root, "name: small\ntitle: Small & <b>bold</b>\n")
    history = History(repository, MODEL)
    history.hours(HOURS, rows_of, target="price")
    return history


@pytest.fixture(scope="module")
def repository(history: History) -> Repository:
    return history.monitor.repository


def test_every_change_is_remembered_with_its_hour_and_nothing_else(history: History) -> None:
    memory = recall(history.store, MODEL, "1")
    assert len(memory.windows) == HOURS - 1  # the first half hour alone is not enough
    assert sum(window.rows for window in memory.windows) == HOURS * 600
    changed = {(a.feature, a.kind) for a in memory.open_alarms if a.feature in ("area", "age")}
    assert changed == {("area", "distribution"), ("age", "missing")}
    assert not [a for a in memory.alarms if a.kind == "dependence"], "what drifts explains it"
    untouched = {"rooms", "floor", "noise", "heating"}
    assert not untouched & {alarm.feature for alarm in memory.alarms}
    began = min(a.since for a in memory.open_alarms if a.feature == "area")
    assert abs(began - memory.windows[QUIET_HOURS - 1].start) < 1


def test_a_row_belongs_to_one_window_though_its_minute_is_written_again(
    history: History,
) -> None:
    """The counts of a minute grow after a window was closed in the middle of it."""
    memory = VersionMemory("other", "1")
    minute = 1_800_000_000 // 60 * 60
    rows = []
    for grown in (100, 250, 300):
        whole = Counts(grown, 0, {"area": FeatureCounts([grown, 2 * grown], missing=grown)})
        store = history.store
        store.add_counts([LoggedCounts("other", "1", minute, "w", whole.encode())])
        counts = pending_counts(store, memory, minute + 30)
        rows.append((counts.rows, counts.features["area"]))
        close_window(store, memory, counts, minute + 30)
    assert rows == [
        (100, FeatureCounts([100, 200], missing=100)),
        (150, FeatureCounts([150, 300], missing=150)),
        (50, FeatureCounts([50, 100], missing=50)),
    ]


def test_quality_is_measured_with_an_interval_once_the_truth_is_known(history: History) -> None:
    newest = {(p.metric, p.source): p for p in recall(history.store, MODEL, "1").newest_quality()}
    measured = newest["accuracy", "measured"]
    assert measured.low < measured.value < measured.high
    assert newest["accuracy", "estimated"].rows > 0
    assert ("log_loss", "measured") in newest


def test_a_second_monitor_remembers_open_alarms_and_raises_none_again(history: History) -> None:
    told = len(history.told)
    before = len(recall(history.store, MODEL, "1").alarms)
    again = History(history.monitor.repository, MODEL)
    again.monitor.run(time.time() + 60)
    assert len(recall(history.store, MODEL, "1").alarms) == before
    assert len(history.told) == told
    assert again.told == []


def test_an_expected_change_raises_no_alarm(history: History, repository: Repository) -> None:
    path = repository.model_folder(MODEL) / "model.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(
        before + "expected_changes:\n"
        "  - {feature: area, from: 2020-01-01, until: 2100-01-01, reason: larger flats}\n",
        encoding="utf-8",
    )
    told = len(history.told)
    for hour in (1, 2):
        later = time.time() + hour * 3600
        history.write(rows_of(HOURS + hour), later - 1800)
        history.monitor.run(later)
    assert not [line for line in history.told[told:] if ": area drifts" in line]
    path.write_text(before, encoding="utf-8")
    memory = recall(history.store, MODEL, "1")
    assert "area" not in {alarm.feature for alarm in memory.open_alarms}
    assert "age" in {alarm.feature for alarm in memory.open_alarms}
    assert memory.windows[-1].shifts["area"].is_expected


def test_the_report_names_what_changed_and_is_one_page_without_faults(
    history: History, repository: Repository, tmp_path: Path
) -> None:
    seen = seen_versions(repository, Registry(repository.root / "registry"), history.store)
    more = [Alarm("noise", kind, time.time(), 0.1, 0.01) for kind in ("missing", "unseen")]
    seen[0].memory.alarms += more
    begun = time.process_time()
    page = report_page(read_settings(repository, {}), seen)
    assert time.process_time() - begun < 2
    assert len(page) < 1_000_000
    assert "<b>age</b> is missing in" in page
    assert "What this monitor cannot see" in page
    assert f"small train {MODEL} --since" in page
    assert "Small &amp; &lt;b&gt;bold" in page
    assert not re.search(r"(src|href)=.(?!data:|#)|<script|url\(", page)
    assert "Blind spots: what would be found within a day" in page
    advice = page.partition("<pre>expected_changes:")[2].partition("</pre>")[0]
    assert advice.count("feature: ") == len({a.feature for a in seen[0].memory.open_alarms})
    path = tmp_path / "report.html"
    path.write_text(page + MEETING, encoding="utf-8")
    ran = subprocess.run(
        [
            program("chromium"),
            *("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            f"--user-data-dir={tmp_path / 'profile'}",
            *("--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in ran.stderr
    assert ran.stdout.count("<svg") == page.count("<svg") > 6
    assert "<title>no words meet</title>" in ran.stdout


def test_the_terminal_says_that_quality_is_below_its_gate_and_what_is_estimated(
    history: History, repository: Repository
) -> None:
    seen = seen_versions(repository, Registry(repository.root / "registry"), history.store)
    calm = msgspec.structs.replace(seen[0].memory, alarms=[])
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(view([msgspec.structs.replace(seen[0], memory=calm)], {}))
    shown = console.export_text()
    assert "worse than its gate, which is 0.6" in shown
    assert "Nothing to do" not in shown
    assert "~ is an estimate" in shown


def test_a_report_of_no_window_yet_does_not_say_that_nothing_differs(
    history: History, repository: Repository
) -> None:
    seen = seen_versions(repository, Registry(repository.root / "registry"), history.store)
    fresh = msgspec.structs.replace(seen[0], memory=VersionMemory(MODEL, "1"))
    page = report_page(read_settings(repository, {}), [fresh])
    assert "No window is closed yet" in page
    assert "Nothing that is watched differs" not in page
