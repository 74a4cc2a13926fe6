"""That what happens is seen: logs, metrics, rules, and who looks."""

from __future__ import annotations

import re
import shutil
import time

from model_service.handoff.alerts import RULES, alerts_of, family_of, metrics_in, rule_files
from model_service.handoff.outcome import SkippedError, UnmetError, proves
from model_service.handoff.subject import Subject
from model_service.model_settings import read_model_settings
from model_service.monitoring.gauges import COUNTERS, PREFIX
from model_service.monitoring.gauges import FAMILIES as OF_THE_MONITOR
from model_service.serving.metrics import FAMILIES as OF_THE_SERVICE

LONGEST_SECONDS = 10
REQUEST_ID = "handoff-check-obs-1"
OF_A_REQUEST = ("request_id", "ml.model.name", "ml.model.version", "ml.outcome", "timestamp")
BY_VERSION = {
    "model_service_predictions_total": "how many rows, and what became of them",
    "model_service_prediction_duration_seconds_count": "how long an answer takes",
    "model_service_input_problems_total": "dirty values by feature",
    "model_service_version_state": "which versions are ready",
}
BY_ROUTE = "model_service_http_request_duration_seconds_count"


@proves("OBS-1")
def requests_are_logged(subject: Subject) -> str:
    """Send a request with an id, and find its line in the log."""
    for model in subject.served:
        given = f"{REQUEST_ID}-{model}"
        rows = subject.rows(model)
        path = f"/v1/models/{model}/predict"
        reply = subject.service.ask("POST", path, {"rows": rows}, {"x-request-id": given})
        if reply.headers.get("x-request-id") != given or reply.json.get("request_id") != given:
            raise UnmetError(f"{model}: the id of a request does not come back with its answer")
        line = _line_of(subject, given)
        lacking = [name for name in OF_A_REQUEST if not line.get(name)]
        if lacking:
            raise UnmetError(f"the log line of a request to {model} lacks {lacking[0]}")
        if line["ml.model.name"] != model or line["ml.model.version"] != reply.json["version"]:
            raise UnmetError(f"the log line of a request to {model} names another version")
    return f"requests to {len(subject.contracts)} models are found in the log by their ids"


def _line_of(subject: Subject, request_id: str) -> dict[str, object]:
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        for line in subject.service.log():
            if line.get("request_id") == request_id:
                return line
        time.sleep(0.05)
    raise UnmetError(f"the log has no JSON line with the request id {request_id}")


@proves("OBS-2")
def versions_are_measured(subject: Subject) -> str:
    """Scrape a service that was sent clean, dirty and wrong rows."""
    samples = subject.samples
    for model, champion in subject.champions.items():
        for name, what in BY_VERSION.items():
            found = [
                sample.value
                for sample in samples
                if sample.name == name
                and sample.labels.get("model") == model
                and sample.labels.get("version") == champion.version
            ]
            if not any(found):
                raise UnmetError(f"/metrics does not say {what} of {model} ({name})")
    classes = {s.labels.get("status_class") for s in samples if s.name == BY_ROUTE and s.value}
    if not {"2xx", "4xx"} <= classes:
        raise UnmetError(f"/metrics does not tell answers from errors ({BY_ROUTE})")
    return f"{len(BY_VERSION) + 1} measures of {len(subject.champions)} models were scraped"


@proves("OBS-3")
def rules_fire_and_exist(subject: Subject) -> str:
    """Let promtool check and test the rules, and look for every metric that they use."""
    promtool = shutil.which("promtool")
    if promtool is None:
        raise SkippedError("promtool is not here: apt-get install prometheus")
    files = rule_files(subject.root)
    tests = sorted((subject.root / RULES / "tests").glob("*.yaml"))
    if not tests:
        raise UnmetError(f"{RULES}/tests has no unit test")
    for command in (("check", files), ("test", tests)):
        ran = subject.run(promtool, command[0], "rules", *map(str, command[1]))
        if ran.returncode:
            raise UnmetError(f"promtool {command[0]} rules: {_first_failure(ran.stdout)}")
    tested = "\n".join(path.read_text(encoding="utf-8") for path in tests)
    for name in alerts_of(subject.root):
        if not re.search(rf"alertname: {name}\b", tested):
            raise UnmetError(f"the alert {name} has no unit test")
    used = _used_metrics(subject)
    exported = _families_of_the_service(subject) | {
        family_of(f"{PREFIX}{name}") for name in (*OF_THE_MONITOR, *COUNTERS, *OF_THE_SERVICE)
    }
    lost = sorted(name for name in used if family_of(name) not in exported)
    if lost:
        raise UnmetError(f"{used[lost[0]]} asks for {lost[0]}, which nobody exports")
    return f"{len(alerts_of(subject.root))} alerts pass their unit tests; {len(used)} metrics exist"


def _used_metrics(subject: Subject) -> dict[str, str]:
    """Return every metric that rules and dashboards ask for, and where."""
    folder = subject.root / "monitoring"
    files = [*rule_files(subject.root), *sorted(folder.glob("grafana/**/*.json"))]
    return {
        name: str(path.relative_to(subject.root))
        for path in files
        for name in metrics_in(path.read_text(encoding="utf-8"))
    }


def _families_of_the_service(subject: Subject) -> set[str]:
    """Return what is scraped; some families are only there once something happened."""
    text = subject.service.ask("GET", "/metrics").body.decode()
    return {family_of(name) for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)}


@proves("OBS-5")
def the_monitor_runs(subject: Subject) -> str:
    """Read who looks and when the truth comes, then let the monitor look at answers just given."""
    words = []
    for model in subject.served:
        stated = read_model_settings(subject.repository, model)
        if not stated.retrain.owner.strip():
            raise UnmetError(f"models/{model}/model.yaml: retrain.owner is empty: who looks?")
        subject.service.predict(model, subject.rows(model))
        truth = stated.ground_truth
        when = f"within {truth.within_days} days" if truth.expected else "never"
        words.append(f"{model}: the truth comes {when}")
    ran = subject.run_service_command(subject.scratch.root, "monitor", "--once")
    if ran.returncode:
        last = (ran.stdout.strip().splitlines() or ["it says nothing"])[-1]
        raise UnmetError(f"monitor --once ends with {ran.returncode}: {last}")
    if lacking := [model for model in subject.served if model not in ran.stdout]:
        raise UnmetError(f"the monitor does not look at {lacking[0]}")
    return ", ".join(words)


def _first_failure(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if "FAILED" in line or "err" in line.lower()]
    return " ".join((wrong or lines or ["no reason was given"])[:2])


@proves("OBS-4")
def the_service_level_is_watched(subject: Subject) -> str:
    """Compare what the service exports of its level with service.yaml, and look for the alerts that
    are derived from it; the numbers themselves are signed."""
    slo = subject.settings.slo
    exported = {sample.name: sample.value for sample in subject.samples}
    for name, value in (
        ("model_service_slo_availability", slo.availability),
        ("model_service_slo_latency_share", slo.latency_share),
    ):
        if exported.get(name) != value:
            raise UnmetError(f"/metrics says {name} is {exported.get(name)}, service.yaml {value}")
        if not any(name in alert["expr"] for alert in alerts_of(subject.root).values()):
            raise UnmetError(f"no alert is derived from {name}")
    return (
        f"{slo.availability:.2%} answered, {slo.latency_share:.0%} within "
        f"{slo.latency_milliseconds:g} ms, watched by alerts"
    )
