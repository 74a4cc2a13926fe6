"""What backend sends and gets, and that it is what was agreed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from model_service.contract.compatibility import breaking_changes, raises_major
from model_service.contract.contract import Contract, Output
from model_service.files import FileError, read_yaml, sha256_of
from model_service.handoff.bundle import bundle_folder, make_bundle
from model_service.handoff.expectation import answered_rows, check_answer
from model_service.handoff.generated_files import SUMS, stale_files
from model_service.handoff.outcome import SkippedError, UnmetError, proves
from model_service.handoff.running_service import Reply, RunningService
from model_service.handoff.scratch import BROKEN, SECOND, run_before_features
from model_service.handoff.subject import Subject
from model_service.registry.traffic import promote
from model_service.serving.api_keys import digest_of, new_key
from model_service.serving.problems import PROBLEMS
from model_service.serving.stub_callers import callers_file, read_callers
from model_service.settings import read_settings

PROBLEM = "application/problem+json"
FIELDS_OF_A_PROBLEM = {"type", "title", "status", "detail", "request_id"}
MISFORTUNES = """\
import pathlib, time

if pathlib.Path({fails!r}).exists():
    raise RuntimeError("a failure planted by handoff check")
while pathlib.Path({hangs!r}).exists():
    time.sleep(0.02)
"""
MANY_ROWS = 1000
"""So many are not answered between two other requests but in a thread, which may hang."""


class Consumer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One caller: what it reads of each answered row, and what it does without an answer."""

    consumer: str
    model: str
    fields: tuple[str, ...]
    rows_per_request: int
    timeout_milliseconds: float
    fallback: str


@proves("CON-1")
def the_bundle_is_what_the_code_serves(subject: Subject) -> str:
    """Make the bundle again and compare it with the committed one, byte by byte."""
    contracts = list(subject.contracts.values())
    # The environment of whoever checks is not part of what is promised.
    bundle = make_bundle(read_settings(subject.repository, {}), contracts)
    stale = stale_files(bundle_folder(subject.repository), bundle)
    if stale:
        more = f" (and {len(stale) - 1} more)" if stale[1:] else ""
        raise UnmetError(f"handoff/contract/{stale[0]}{more}: {subject.command} contract export")
    return f"{len(bundle)} files are what the code serves"


@proves("CON-2")
def nothing_breaks(subject: Subject) -> str:
    """Hold each contract against the one that callers have: that of the champion."""
    compared = 0
    for model, contract in subject.contracts.items():
        entry = subject.traffic.models.get(model)
        if entry is None or entry.champion is None:
            continue
        released = subject.champions[model].contract
        breaking = breaking_changes(released, contract)
        if breaking and not raises_major(released, contract):
            version = f"contract_version is still {contract.contract_version}"
            raise UnmetError(f"models/{model}/contract.yaml: {breaking[0]} {version}")
        compared += 1
    return f"{compared} of {len(subject.contracts)} contracts have callers; none is broken"


@proves("CON-3")
def the_bundle_is_whole(subject: Subject) -> str:
    """Hold every file of the bundle against its digests; backend signs them all."""
    folder = bundle_folder(subject.repository)
    if not (folder / SUMS).is_file():
        todo = f"handoff/contract/ is not there: {subject.command} contract export"
        raise UnmetError(todo, "data-science")
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            raise UnmetError(f"handoff/contract/{name} is not the file of {SUMS}")
    return f"sha256 {sha256_of(folder / SUMS)[:12]}"


@proves("CON-5")
def every_error_says_what_to_do(subject: Subject) -> str:
    """Look up every error that the service can answer in the committed catalogue."""
    path = bundle_folder(subject.repository) / "errors.json"
    if not path.is_file():
        todo = f"handoff/contract/errors.json is not there: {subject.command} contract export"
        raise UnmetError(todo, "data-science")
    catalogue = msgspec.json.decode(path.read_bytes())
    for slug in PROBLEMS:
        if slug not in catalogue:
            raise UnmetError(f"handoff/contract/errors.json does not have {slug}")
        for field in ("what_happened", "may_i_retry", "fallback", "whom_to_tell"):
            if not str(catalogue[slug].get(field, "")).strip():
                raise UnmetError(f"handoff/contract/errors.json: {slug} has no {field}")
    return f"{len(PROBLEMS)} errors say what to do"


@proves("CON-4")
def errors_are_as_declared(subject: Subject) -> str:
    """Walk the document, then get each error that it declares from a running service."""
    service = subject.service
    document = service.ask("GET", "/openapi.json").json
    for where, operation in _operations(document):
        errors = {s: r for s, r in operation["responses"].items() if s[0] in "45"}
        if not errors:
            raise UnmetError(f"{where} declares no error")
        for status, stated in errors.items():
            if PROBLEM not in _resolved(document, stated).get("content", {}):
                raise UnmetError(f"{where} declares {status} without {PROBLEM}")
    provoked = set()
    for model, status, reply in (*_mistakes(subject), *_misfortunes(subject)):
        declared = document["paths"][f"/v1/models/{model}/predict"]["post"]["responses"]
        _check_problem(reply, status, declared, model)
        provoked.add(str(status))
    untried = {status for status in declared if status[0] in "45"} - provoked
    if untried:
        raise UnmetError(f"{min(untried)} is declared, and this check does not know how to get it")
    return f"{len(provoked)} errors are answered as declared, each by its mistake or misfortune"


def _mistakes(subject: Subject) -> Iterator[tuple[str, int, Reply]]:
    """Make each mistake that a caller can make."""
    service = subject.service
    too_many: dict[str, Any] = {"rows": [{}] * (subject.settings.limits.rows_per_request + 1)}
    for model in subject.contracts:
        path = f"/v1/models/{model}/predict"
        yield model, 400, service.ask("POST", path, b'{"rows": [')
        yield model, 400, service.ask("POST", path, {})
        yield model, 404, service.predict(f"{model}_unheard_of", [{}])
        yield model, 405, service.ask("GET", path)
        yield model, 413, service.ask("POST", path, too_many)
        yield model, 415, service.ask("POST", path, b"rows", {"content-type": "text/csv"})
        yield model, 422, service.ask("POST", path, {"rows": [3]})
        yield model, 503, service.predict(model, [{}], BROKEN)


def _misfortunes(subject: Subject) -> Iterator[tuple[str, int, Reply]]:
    """Ask a service with keys and little time, of which one model fails or hangs when told to."""
    model = next(iter(subject.served))
    repository = subject.new_scratch("misfortunes")
    fails, hangs = repository.root / "fails", repository.root / "hangs"
    told = MISFORTUNES.format(fails=str(fails), hangs=str(hangs))
    run_before_features(repository.root / "registry" / model / SECOND, told)
    promote(repository.traffic, model, SECOND, by="handoff check")
    key = new_key()
    service = subject.start(
        repository,
        MODEL_SERVICE_API_KEYS=f'{{handoff-check: "{digest_of(key)}"}}',
        MODEL_SERVICE_LIMITS__SECONDS_PER_REQUEST="1",
        MODEL_SERVICE_LIMITS__ROWS_PER_REQUEST=str(MANY_ROWS),
    )
    path, mine = f"/v1/models/{model}/predict", {"authorization": f"Bearer {key}"}
    one = {"rows": subject.rows(model)[:1]}
    yield model, 401, service.ask("POST", path, one)
    with ThreadPoolExecutor(1) as meanwhile:
        half = mine | {"content-length": "100"}
        slow = meanwhile.submit(service.ask, "POST", path, b"{", half)
        fails.touch()
        yield model, 500, service.ask("POST", path, one, mine)
        fails.rename(hangs)
        yield model, 504, service.ask("POST", path, {"rows": one["rows"] * MANY_ROWS}, mine)
        yield model, 429, service.ask("POST", path, one, mine)
        hangs.unlink()
        yield model, 408, slow.result()


def _check_problem(reply: Reply, status: int, declared: dict[str, Any], model: str) -> None:
    what = f"{model}: a mistake that should be answered with {status}"
    if reply.status != status:
        raise UnmetError(f"{what} is answered with {reply.status}")
    if str(status) not in declared:
        raise UnmetError(f"{model}: {status} is answered and not declared")
    if reply.headers.get("content-type") != PROBLEM:
        raise UnmetError(f"{what} comes as {reply.headers.get('content-type')}")
    lacking = FIELDS_OF_A_PROBLEM - set(reply.json)
    if lacking or reply.json["status"] != status:
        raise UnmetError(f"{what} lacks {', '.join(sorted(lacking)) or 'its own status'}")


@proves("CON-6")
def examples_are_answered(subject: Subject) -> str:
    """Send each documented request; before the first training the stub answers."""
    try:
        tried = _replay_examples(subject.service, subject.served)
    except SkippedError:
        tried = _replay_examples(subject.stub, subject.contracts)
    return f"{tried} examples are answered as documented"


def _replay_examples(
    service: RunningService, contracts: dict[str, Contract], *, exactly: bool = False
) -> int:
    document = service.ask("GET", "/openapi.json").json
    tried = 0
    for model, contract in contracts.items():
        path = f"/v1/models/{model}/predict"
        if path not in document["paths"]:
            raise UnmetError(f"/openapi.json has no {path}")
        operation = document["paths"][path]["post"]
        requests = operation["requestBody"]["content"]["application/json"].get("examples", {})
        answers = operation["responses"]["200"]["content"]["application/json"].get("examples", {})
        if not requests:
            raise UnmetError(f"/openapi.json has no example of a request to {model}")
        for name, example in requests.items():
            reply = service.ask("POST", path, example["value"])
            _check_as_documented(contract, f"{model} {name}", reply, answers.get(name), exactly)
            tried += 1
    return tried


def _check_as_documented(
    contract: Contract, what: str, reply: Reply, documented: dict[str, Any] | None, exactly: bool
) -> None:
    rows = answered_rows(reply, what)
    if documented is None:
        raise UnmetError(f"{what}: no answer is documented")
    expected = documented["value"]
    if set(reply.json) != set(expected):
        raise UnmetError(f"{what}: the answer has {sorted(reply.json)}, not {sorted(expected)}")
    for row, stated in zip(rows, expected["rows"], strict=True):
        check_answer(contract, row, what)
        if set(row) != set(stated):
            raise UnmetError(f"{what}: a row has {sorted(row)}, not {sorted(stated)}")
        if exactly and row["value"] != stated["value"]:
            raise UnmetError(f"{what}: answered {row['value']}, documented {stated['value']}")
        if row["warnings"] != stated["warnings"]:
            raise UnmetError(f"{what}: warned {row['warnings']}, documented {stated['warnings']}")


@proves("CON-7")
def answers_have_a_meaning(subject: Subject) -> str:
    """Look through the output of each contract."""
    for model, contract in subject.contracts.items():
        lacking = next(_lacking(contract.output), None)
        if lacking:
            raise UnmetError(f"models/{model}/contract.yaml: output.{lacking}")
    return f"{len(subject.contracts)} outputs say what they mean"


def _lacking(output: Output) -> Iterator[str]:
    if len(output.meaning.split()) < 3:
        yield "meaning says too little"
    if output.type == "class":
        if output.calibrated is None:
            yield "calibrated is not said: may callers read probabilities as frequencies?"
        if output.thresholds and not output.decided_by:
            yield "decided_by is not said: who may change the thresholds?"
    else:
        if output.unit is None:
            yield 'unit is not said ("1" for a number without one)'
        if output.minimum is None or output.maximum is None:
            yield "minimum and maximum are not said"


@proves("CON-8")
def whatever_is_sent_is_answered(subject: Subject) -> str:
    """Run the repository's own fuzzing, which sends what the contract allows and what it does not
    to a real server."""
    subject.require_champions()
    return run_tests(subject, "tests/test_dirty_values.py")


def run_tests(subject: Subject, *paths: str) -> str:
    """Run tests of the repository, and return how many passed."""
    if not (subject.root / paths[0]).exists():
        raise SkippedError(f"{paths[0]} is not there")
    command = [sys.executable, "-m", "pytest", "-c", "config/pytest.ini", "--rootdir", "."]
    ran = subject.run(*command, "-q", "-x", "-p", "no:cacheprovider", *paths)
    if "No module named pytest" in ran.stdout:
        raise SkippedError("pytest is not installed here")
    lines = ran.stdout.strip().splitlines() or ["pytest said nothing"]
    if ran.returncode:
        failed = (line for line in lines if line.startswith(("FAILED", "ERROR")))
        raise UnmetError(next(failed, lines[-1]))
    return lines[-1].strip("= ")


@proves("CON-9")
def the_stub_answers(subject: Subject) -> str:
    """Start the stub: it answers every documented request by the very answer that is documented."""
    tried = _replay_examples(subject.stub, subject.contracts, exactly=True)
    return f"the stub answers {tried} examples as documented"


@proves("CON-10")
def consumers_can_rely_on_it(subject: Subject) -> str:
    """Hold what is written down about each consumer against contracts, limits and promises."""
    consumers = read_consumers(subject)
    settings = subject.settings
    for each in consumers:
        if each.model not in subject.contracts:
            raise UnmetError(f"{each.consumer}: there is no model {each.model}")
        is_class = subject.contracts[each.model].output.type == "class"
        known = {"prediction_id", "value", "warnings", *(["probabilities"] if is_class else [])}
        unknown = sorted(set(each.fields) - known)
        if unknown:
            raise UnmetError(
                f"{each.consumer} reads {unknown[0]}, which no row of {each.model} has"
            )
        if each.rows_per_request > settings.limits.rows_per_request:
            raise UnmetError(
                f"{each.consumer} sends {each.rows_per_request} rows; limits allow less"
            )
        if each.timeout_milliseconds < settings.slo.latency_milliseconds:
            promised = settings.slo.latency_milliseconds
            raise UnmetError(
                f"{each.consumer} waits {each.timeout_milliseconds:g} ms; promised are {promised:g}"
            )
        if not each.fallback.strip():
            raise UnmetError(f"{each.consumer} does not say what it does without an answer")
    return f"{len(consumers)} consumers: {', '.join(each.consumer for each in consumers)}"


def read_consumers(subject: Subject) -> list[Consumer]:
    """Read `handoff/consumers.yaml`; there must be somebody in it."""
    path = subject.root / "handoff" / "consumers.yaml"
    try:
        consumers = msgspec.convert(read_yaml(path) or [], list[Consumer])
    except FileNotFoundError:
        consumers = []
    except (FileError, msgspec.ValidationError) as error:
        raise UnmetError(f"handoff/consumers.yaml: {error}") from None
    if not consumers:
        raise UnmetError("handoff/consumers.yaml names nobody: who calls, and relies on what?")
    return consumers


@proves("CON-11")
def consumers_have_met_the_stub(subject: Subject) -> str:
    """Each consumer has called the stub by its name, and has met an error; backend signs it."""
    callers = read_callers(callers_file(subject.repository))
    for each in read_consumers(subject):
        caller = callers.get(each.consumer)
        if caller is None or each.model not in caller.models:
            raise UnmetError(
                f"{each.consumer} has not asked the stub about {each.model}", "backend"
            )
        if not any(status.startswith("4") for status in caller.statuses):
            raise UnmetError(f"{each.consumer} has met no error of the stub yet", "backend")
    return f"{len(callers)} callers have met the stub"


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", operation


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        names = part["$ref"].removeprefix("#/").split("/")
        part = document
        for name in names:
            part = part[name]
    return part
