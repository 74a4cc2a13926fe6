"""That what happens is seen: logs, metrics, rules, and who looks."""

from __future__ import annotations

import time

from model_service.contract.examples import example_rows
from model_service.handoff.outcome import UnmetError, proves
from model_service.handoff.subject import Subject

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
    for model, contract in subject.contracts.items():
        given = f"{REQUEST_ID}-{model}"
        rows = [dict(row) for row in example_rows(contract)]
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
