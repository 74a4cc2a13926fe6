"""The monitor over a history, and the report that it leads to."""

from __future__ import annotations

import datetime as dt
import io
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rich.console import Console

from model_service.drift.counts import Counts
from model_service.hooks import load_hooks
from model_service.model_settings import ExpectedChange
from model_service.monitoring.drift_watch import levels_for
from model_service.monitoring.gauges import Gauges, Seen
from model_service.monitoring.look import Look
from model_service.monitoring.memory import Alarm, VersionMemory, recall
from model_service.monitoring.monitor import Monitor
from model_service.monitoring.report import report_page
from model_service.monitoring.terminal_view import seen_versions, view
from model_service.monitoring.windows import close_window, is_full, pending_counts
from model_service.prediction_log.records import GroundTruth, LoggedCounts
from model_service.registry.profile import FeatureCounts
from model_service.registry.registry import Registry
from model_service.registry.traffic import shadow
from model_service.settings import Monitoring, read_settings
from model_service.training import train
from tests.debian import program
from tests.monitoring.alarm_chain import wait_for
from tests.monitoring.test_monitor import values
from tests.monitoring.watched_history import History
from tests.monitoring.watched_repository import MODEL, make_watched_repository, rows_like_training

if TYPE_CHECKING:
    from pathlib import Path

    from model_service.monitoring.watched_versions import WatchedVersion
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
HEARD = "heard.txt"
HOOKS = """\
def on_drift(drift):
    with open({!r}, "a") as file:
        print(drift.feature, file=file)
"""


def rows_of(hour: int) -> list[dict[str, Any]]:
    drifts = hour >= QUIET_HOURS
    rows = rows_like_training(600, seed=300 + hour, broken="area" if drifts else None)
    return [row | {"age": None} if drifts and i % 8 == 0 else row for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    root = tmp_path_factory.mktemp("report")
    repository = make_watched_repository(root, "name: small\ntitle: Small & <b>bold</b>\n")
    heard = (
        f"def on_drift(drift):\n    print(drift.feature, file=open({str(root / HEARD)!r}, 'a'))\n"
    )
    (root / "hooks.py").write_text(heard, encoding="utf-8")
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
    heard = history.monitor.repository.root / HEARD
    wait_for(lambda: {"area", "age"} <= set(heard.read_text().split()), "on_drift hears of it")
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


def test_the_window_that_is_still_open_is_shown_and_not_remembered(history: History) -> None:
    before = recall(history.store, MODEL, "1")
    rows = rows_like_training(300, seed=77)
    history.write([row | {"heating": "planted oil"} for row in rows], time.time())
    previews = history.monitor.previews()
    assert previews[MODEL, "1"]["heating"].alarms
    assert recall(history.store, MODEL, "1") == before
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(view(history.monitor.gauges.seen, previews))
    assert "heating unseen in the window that is still open: 1," in console.export_text()


def test_more_traffic_than_was_declared_makes_the_levels_stricter(history: History) -> None:
    [seen] = history.monitor.gauges.seen
    declared = levels_for(seen.watched, VersionMemory(MODEL, "1"), 0.1, (500, 3600.0))
    came = levels_for(seen.watched, seen.memory, 0.1, (500, 3600.0))
    assert came.strict == pytest.approx(declared.strict / 12, rel=0.1)  # 24 windows a day, not 2


@pytest.mark.parametrize(
    ("rows", "seconds", "closes"),
    [
        (500, 3600, True),
        (499, 3600, False),
        (5000, 3599, False),
        (1, 86_399, False),
        (1, 86_400, True),
        (0, 86_400, False),
    ],
)
def test_a_window_closes_by_count_and_time_or_after_a_day(
    rows: int, seconds: float, closes: bool
) -> None:
    memory = VersionMemory("other", "1", open_since=1_000.0)
    assert is_full(memory, Counts(rows), 1_000.0 + seconds, Monitoring()) is closes


def test_quality_is_measured_with_an_interval_once_the_truth_is_known(history: History) -> None:
    now = time.time()
    [row] = history.store.rows(MODEL, "1", 0, now, limit=1)
    gone = GroundTruth(value="castle", at=now, received_at=now, prediction_id=row.prediction_id)
    history.store.add_ground_truth([gone])  # a class that an older contract had
    history.monitor.run(now, is_thorough=True)
    assert not history.monitor.gauges.errors
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
    [seen] = history.monitor.gauges.seen
    day = dt.datetime.now(dt.UTC).date()
    change = ExpectedChange("prediction", day, day, "a season")
    settings = msgspec.structs.replace(seen.watched.settings, expected_changes=(change,))
    watched = msgspec.structs.replace(seen.watched, settings=settings)
    at = dt.datetime.combine(day, dt.time(23, 59), dt.UTC).timestamp()
    assert watched.expected_at(at) == {"prediction", "score"}, "the last day is included"
    assert not watched.expected_at(at + 60)
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
    assert "planted" not in page, "no value of a row is on the page"
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
    page = report_page(
        read_settings(repository, {}), [msgspec.structs.replace(seen[0], memory=calm)]
    )
    assert f"small compare {MODEL} 1 NEW" in page, "what is below its gate needs a decision as well"
    assert "Is the source broken?" not in page


def test_a_report_of_no_window_yet_does_not_say_that_nothing_differs(
    history: History, repository: Repository
) -> None:
    seen = seen_versions(repository, Registry(repository.root / "registry"), history.store)
    fresh = msgspec.structs.replace(seen[0], memory=VersionMemory(MODEL, "1"))
    page = report_page(read_settings(repository, {}), [fresh])
    assert "No window is closed yet" in page
    one = msgspec.structs.replace(seen[0].memory, windows=seen[0].memory.windows[:1])
    first = report_page(
        read_settings(repository, {}), [msgspec.structs.replace(seen[0], memory=one)]
    )
    assert "rows in 1 window<" in first
    assert "Nothing that is watched differs" not in page


def test_silence_and_age_are_told_on_the_page_and_in_the_terminal(
    history: History, repository: Repository
) -> None:
    [seen] = seen_versions(repository, Registry(repository.root / "registry"), history.store)
    manifest = msgspec.structs.replace(seen.watched.manifest, created_at="2020-01-01T00:00:00Z")
    watched = msgspec.structs.replace(seen.watched, manifest=manifest)
    began = time.time() - 40 * 86_400
    silent = [Seen(watched, VersionMemory(MODEL, "1", first_seen=began, profile="missing"))]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(view(silent, {}))
    page = report_page(read_settings(repository, {}), silent)
    for shown in (console.export_text(), re.sub("</?b>", "", page)):
        assert "No traffic for 960 hours." in shown
        assert "No ground truth for 40 days; 30 are declared." in shown
        assert "days ago; 365 are allowed." in shown
        assert "Its reference profile is missing, so drift is not watched" in shown


def test_many_features_make_a_small_page_quickly_and_no_more_than_fifty_series(
    history: History, repository: Repository
) -> None:
    [seen] = seen_versions(repository, Registry(repository.root / "registry"), history.store)
    names = [f"feature_{place}" for place in range(60)]
    contract, profile = seen.watched.contract, seen.watched.profile
    assert profile is not None
    area = contract.features[0]
    wide = msgspec.structs.replace(
        seen.watched,
        contract=msgspec.structs.replace(
            contract, features=tuple(msgspec.structs.replace(area, name=name) for name in names)
        ),
        profile=msgspec.structs.replace(
            profile, features=dict.fromkeys(names, profile.features["area"])
        ),
    )
    window = seen.memory.windows[-1]
    counts = Counts.decode(window.counts or b"")
    counts.features |= dict.fromkeys(names, counts.features["area"])
    shifts = dict.fromkeys([*names, "prediction", "score"], window.shifts["area"])
    kept = msgspec.structs.replace(window, shifts=shifts, counts=counts.encode())
    alarms = [Alarm(name, "distribution", window.start, 0.5, 0.1) for name in names]
    memory = msgspec.structs.replace(seen.memory, windows=[kept] * 96, alarms=alarms)
    many = [Seen(wide, memory)]
    begun = time.process_time()
    page = report_page(read_settings(repository, {}), many)
    assert time.process_time() - begun < 2
    assert 30_000 < len(page) < 1_000_000
    assert all(f">{name}<" in page for name in names)
    gauges = Gauges(60)
    gauges.seen = many
    told = values(gauges)
    assert len([name for name in told if name.startswith("drift_alert")]) == 50
    assert told["monitor_series_dropped_total"] == 10


def test_an_alarm_ends_after_three_windows_without_it_and_not_before(history: History) -> None:
    gauge = f'drift_alert{{feature="age",kind="missing",model="{MODEL}",version="1"}}'
    is_open = []
    for hour in range(3, 9):
        later = time.time() + hour * 3600
        history.write(rows_like_training(600, seed=400 + hour), later - 1800)
        history.monitor.run(later)
        memory = recall(history.store, MODEL, "1")
        is_open.append("age" in {alarm.feature for alarm in memory.open_alarms})
        assert values(history.monitor.gauges)[gauge] == is_open[-1]
    assert is_open[:2] == [True, True]
    assert not is_open[-1]
    [ended] = [alarm for alarm in memory.alarms if alarm.feature == "age"]
    assert ended.calm == 3


def test_versions_of_a_model_share_its_budget(repository: Repository) -> None:
    train(repository, MODEL)
    shadow(repository.traffic, MODEL, "2", "test")
    budgets = []

    class Listening(Monitor):
        def _look_at(self, watched: WatchedVersion, *rest: Any) -> Look:
            budgets.append((watched.version, rest[-1]))
            return super()._look_at(watched, *rest)

    hooks = load_hooks(repository.root, print)
    monitor = Listening(read_settings(repository, {}), repository, hooks, print)
    monitor.run(time.time())
    assert sorted(budgets) == [("1", 0.05), ("2", 0.05)]
    monitor.previews()
    assert sorted(budgets[2:]) == [("1", 0.05), ("2", 0.05)], "an open window is judged alike"


def test_the_memory_of_a_version_does_not_grow_for_ever(history: History) -> None:
    memory = recall(history.store, MODEL, "1")
    memory.windows = [memory.windows[-1]] * 1_000
    memory.forget_the_oldest(16)
    assert len(memory.windows) == 400
    assert sum(window.counts is not None for window in memory.windows) == 16


def test_what_fails_is_told_and_costs_no_other_version_and_no_other_step(
    history: History, repository: Repository
) -> None:
    """After the test above: its second version is the one that breaks."""
    (repository.root / "registry" / MODEL / "2" / "manifest.json").unlink()
    now = time.time() + 10 * 3600
    broken = LoggedCounts(MODEL, "1", int(now // 60) * 60, "other", b"no counts")
    history.store.add_counts([broken])
    told = len(history.told)
    history.monitor.run(now, is_thorough=True)
    assert history.monitor.gauges.errors == {"version": 1, "drift": 1}
    assert [line.partition(":")[0] for line in history.told[told:]] == [
        f"{MODEL} version 2",
        f"{MODEL} version 1",
    ]
    memory = recall(history.store, MODEL, "1")
    assert memory.last_run == now
    assert memory.quality_at == now
