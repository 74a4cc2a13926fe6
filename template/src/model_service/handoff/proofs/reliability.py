"""What happens when something goes wrong, and when a version has to go back."""

from __future__ import annotations

import socket
import time
from http.client import HTTPResponse

import msgspec

from model_service.handoff.expectation import answered_rows, check_answer
from model_service.handoff.outcome import UnmetError, proves
from model_service.handoff.running_service import RunningService
from model_service.handoff.scratch import BROKEN, SECOND, write_traffic
from model_service.handoff.subject import Subject
from model_service.registry.loaded_version import load_version
from model_service.registry.manifest import VersionError
from model_service.registry.traffic import read_traffic

LONGEST_SECONDS = 30
DRAIN_SECONDS = 0.2


@proves("REL-1")
def golden_predictions_are_answered_as_they_were(subject: Subject) -> str:
    """Replay the golden predictions of every version that traffic.yaml names."""
    subject.require_champions()
    versions = 0
    for model, entry in subject.traffic.models.items():
        for version in entry.served:
            try:
                differences = load_version(subject.registry.folder(model, version)).replay_golden()
            except VersionError as error:
                raise UnmetError(f"{model} {version}: {error}") from None
            if differences:
                raise UnmetError(f"{model} {version}: {differences[0]}")
            versions += 1
    return f"{versions} versions answer as they did"


@proves("REL-2")
def one_command_rolls_back(subject: Subject) -> str:
    """Promote a copy, roll back by the command, and wait until the running service has followed."""
    repository = subject.new_scratch("rollback")
    service = subject.start(repository)
    model = next(iter(subject.served))
    rows = subject.rows(model)
    before = service.predict(model, rows).json
    seconds = 0.0
    for command, expected in (
        (("promote", model, SECOND, "--accept"), SECOND),
        (("rollback", model), before["version"]),
    ):
        begun = time.monotonic()
        ran = subject.run_service_command(repository.root, *command)
        if ran.returncode:
            raise UnmetError(f"{' '.join(command)}: {ran.stdout.strip().splitlines()[-1]}")
        while (after := service.predict(model, rows).json)["version"] != expected:
            if time.monotonic() > begun + LONGEST_SECONDS:
                raise UnmetError(f"after {command[0]} version {after['version']} goes on answering")
            time.sleep(0.02)
        seconds = time.monotonic() - begun
    values = [[row["value"] for row in answer["rows"]] for answer in (before, after)]
    if values[0] != values[1]:
        raise UnmetError(f"{model} answers {values[1]} after the roll-back, {values[0]} before")
    return f"version {before['version']} of {model} answered again after {seconds:.1f} s"


@proves("REL-3")
def a_broken_version_stays_out(subject: Subject) -> str:
    """Look at a running service that was given a version with a changed byte of each model."""
    for model, contract in subject.served.items():
        described = subject.service.ask("GET", f"/v1/models/{model}").json
        states = {version["version"]: version for version in described["versions"]}
        if states[BROKEN]["state"] != "failed" or not states[BROKEN]["reason"]:
            raise UnmetError(f"{model}: a version with a changed byte is {states[BROKEN]['state']}")
        refused = subject.service.predict(model, [{}], BROKEN)
        if refused.status != 503:
            raise UnmetError(f"{model}: the broken version answers {refused.status}, not 503")
        beside = subject.service.predict(model, subject.rows(model))
        for answer in answered_rows(beside, f"{model} beside it"):
            check_answer(contract, answer, model)
    ready = subject.service.ask("GET", "/readyz")
    if ready.status != 200:
        raise UnmetError(f"/readyz says {ready.status} because of a version that nobody asks for")
    return "versions with a changed byte stay out, the others answer"


@proves("REL-4")
def requests_under_way_are_answered(subject: Subject) -> str:
    """Send half a request, tell the service to stop, and send the rest after it closed its door."""
    service = subject.start(
        subject.new_scratch("stopping"), MODEL_SERVICE_SERVER__DRAIN_SECONDS=str(DRAIN_SECONDS)
    )
    model = next(iter(subject.served))
    body = msgspec.json.encode({"rows": subject.rows(model)})
    head = f"POST /v1/models/{model}/predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + body[:10])
        _wait_until_it_is_seen()
        service.tell_to_stop()
        time.sleep(DRAIN_SECONDS + 0.3)
        try:
            connection.sendall(body[10:])
            answer = HTTPResponse(connection)
            answer.begin()
        except OSError as error:
            raise UnmetError(f"a request under way was cut off: {error}") from None
        if answer.status != 200:
            raise UnmetError(f"a request under way was answered with {answer.status}")
        answer.read()
    code = service.wait_for_end(LONGEST_SECONDS)
    if code != 0:
        raise UnmetError(f"told to stop, the service ended with {code}")
    return "a request under way was answered, then the service ended with 0"


def _wait_until_it_is_seen() -> None:
    """Give the service time to read half a request; more makes the proof no harder to pass."""
    time.sleep(0.1)


@proves("REL-6")
def a_shadow_is_compared(subject: Subject) -> str:
    """Make a copy of each champion its shadow, and see that its answers are compared."""
    repository = subject.new_scratch("shadow")
    models = {
        model: msgspec.structs.replace(entry, challengers={}, shadows=(SECOND,))
        for model, entry in read_traffic(repository.traffic).models.items()
    }
    write_traffic(repository.root, models)
    service = subject.start(repository)
    for model in subject.served:
        service.predict(model, subject.rows(model))
        deadline = time.monotonic() + LONGEST_SECONDS
        while not _agreeing_rows(service, model):
            if time.monotonic() > deadline:
                raise UnmetError(f"{model}: no row of its shadow is compared")
            time.sleep(0.05)
    return f"the shadows of {len(models)} models were asked as well and compared"


def _agreeing_rows(service: RunningService, model: str) -> float:
    """Return the rows of a model that its shadow answers as its champion does."""
    return sum(
        sample.value
        for sample in service.metrics()
        if sample.name == "model_service_shadow_rows_total"
        and sample.labels["model"] == model
        and sample.labels["outcome"] == "agrees"
    )
