"""That nothing leaks, and that not everybody may ask everything."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from model_service.contract.examples import example_rows
from model_service.handoff.expectation import with_value
from model_service.handoff.outcome import SkippedError, StaleError, UnmetError, proves
from model_service.handoff.running_service import Reply
from model_service.handoff.subject import Subject

CALLERS, CROWD_ROWS, CROWD_ROUNDS = 8, 500, 20
PIP_AUDIT = "2.10.1"
LARGEST_FILE = 1_000_000
SECRETS = {
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
    "a key of AWS": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": re.compile(rb"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_\w{50,})"),
    "a token of GitLab": re.compile(rb"\bglpat-[\w-]{20,}"),
    "a token of Slack": re.compile(rb"\bxox[abprs]-[\w-]{10,}"),
    "a key of Google": re.compile(rb"\bAIza[\w-]{35}\b"),
    "a JSON web token": re.compile(rb"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "an address with a password": re.compile(
        rb"(?i)\w+://[^\s:/@\"'{<$]+:(?!pass|secret|example|change)[^\s:/@\"'{<$]{6,}@[\w.-]+"
    ),
    "a password": re.compile(
        rb"(?i)\b(?:password|passwd|secret|api_?key|access_token)[\"']?\s*[:=]\s*"
        rb"[\"'](?=[^\"']*\d)[^\"'\s${}<>]{12,}[\"']"
    ),
}


@proves("SEC-1")
def no_secret_is_in_git(subject: Subject) -> str:
    """Read every file that is or would be in git; let zizmor read the workflows of GitHub."""
    read = 0
    for name in subject.files:
        path = subject.root / name
        if path.stat().st_size > LARGEST_FILE:
            continue
        content = path.read_bytes()
        for what, pattern in SECRETS.items():
            found = pattern.search(content)
            if found:
                line = content.count(b"\n", 0, found.start()) + 1
                raise UnmetError(f"{name}:{line}: looks like {what}")
        read += 1
    if not (subject.root / ".github" / "workflows").is_dir():
        return f"{read} files hold no secret; there is no workflow of GitHub"
    zizmor = _tool("zizmor")
    if zizmor is None:
        raise SkippedError("zizmor is not here, so nobody looked at the workflows: make setup")
    ran = subject.run(zizmor, "--offline", "--quiet", "--format", "github", ".github")
    if ran.returncode:
        raise UnmetError(f"zizmor: {ran.stdout.strip().splitlines()[0]}")
    return f"{read} files hold no secret; zizmor finds nothing in the workflows"


@proves("SEC-2")
def what_is_inside_is_known(subject: Subject) -> str:
    """Hold the bill of materials against the lock of the image, then ask for known holes."""
    locked = subject.root / "deploy" / "requirements.txt"
    sbom = subject.root / "build" / "sbom.json"
    if not locked.is_file():
        raise UnmetError("deploy/requirements.txt, the lock of the image, is not there: make lock")
    if not sbom.is_file():
        raise UnmetError("there is no bill of materials: make sbom")
    listed = {(c["name"].lower(), c["version"]) for c in _components(sbom)}
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", locked.read_text(encoding="utf-8"), re.MULTILINE)
    unlisted = [name for name, version in pins if (name.lower(), version) not in listed]
    if unlisted:
        raise StaleError(f"build/sbom.json does not list {unlisted[0]} as it is locked: make sbom")
    uv = _tool("uv")
    if uv is None:
        raise SkippedError("uv is not here: known vulnerabilities cannot be asked for")
    audit = ["tool", "run", "--quiet", f"pip-audit=={PIP_AUDIT}", "--requirement", str(locked)]
    try:
        ran = subject.run(uv, *audit, "--disable-pip", "--progress-spinner=off", seconds=60)
    except UnmetError as error:
        raise SkippedError(f"known vulnerabilities could not be asked for: {error}") from None
    if holes := re.search(r"^Found \d+ known vulnerabilit.*", ran.stdout, re.MULTILINE):
        raise UnmetError(holes[0])
    if ran.returncode or "Skip Reason" in ran.stdout:
        why = (ran.stdout.strip().splitlines() or ["no reason was given"])[-1]
        raise SkippedError(f"known vulnerabilities could not be asked for: {why}")
    return f"{len(pins)} locked libraries are listed; none has a known vulnerability"


def _tool(name: str) -> str | None:
    """Find a program on the path, or where the tools of this repository are installed."""
    return shutil.which(name) or shutil.which(name, path=Path(sys.executable).parent)


def _components(sbom: Path) -> list[dict[str, str]]:
    try:
        components: list[dict[str, str]] = msgspec.json.decode(sbom.read_bytes())["components"]
    except (msgspec.DecodeError, KeyError, TypeError):
        raise UnmetError("build/sbom.json is no bill of materials: make sbom") from None
    return components


@proves("SEC-3")
def no_value_is_logged(subject: Subject) -> str:
    """Send values that nobody else sends, in rows that are answered and in rows that are refused,
    and look for them in everything that the service printed."""
    planted = 0
    for model, contract in subject.served.items():
        row: dict[str, Any] = dict(example_rows(contract)[0])
        for feature in contract.features:
            for value in (f"planted-{feature.name}-7f3a", 73519246.5):
                subject.service.predict(model, [with_value(row, feature.name, value), row])
                subject.service.predict(model, [with_value(row, feature.name, value)])
                planted += 1
        subject.service.ask("POST", f"/v1/models/{model}/predict", b'{"rows": [{"planted-body": ')
    # Lines are written in the order of the requests: when this one is there, all are.
    last = "handoff-check-sec-3"
    subject.service.ask("GET", "/v1/models", headers={"x-request-id": last})
    deadline = time.monotonic() + 10
    while last not in subject.service.output() and time.monotonic() < deadline:
        time.sleep(0.05)
    for line in subject.service.output().splitlines():
        if "planted-" in line or "73519246" in line:
            raise UnmetError(f"a value of a caller is in the log: {line[:200]}")
    return f"none of {planted} planted values is in the log"


@proves("SEC-4")
def strangers_and_crowds_are_refused(subject: Subject) -> str:
    """Start the service with an API key and a queue of one row: no key, or too many rows, are
    refused as the contract says."""
    from model_service.serving.api_keys import digest_of, new_key

    key = new_key()
    service = subject.start(
        subject.new_scratch("refusing"),
        MODEL_SERVICE_API_KEYS=f'{{handoff-check: "{digest_of(key)}"}}',
        MODEL_SERVICE_LIMITS__QUEUE_ROWS="1",
    )
    for model, contract in subject.served.items():
        row = dict(example_rows(contract)[0])
        path, mine = f"/v1/models/{model}/predict", {"authorization": f"Bearer {key}"}
        for what, rows, headers, status in (
            ("without a key", [row], {}, 401),
            ("with a wrong key", [row], {"authorization": "Bearer no"}, 401),
            ("with its key", [row], mine, 200),
        ):
            reply = service.ask("POST", path, {"rows": rows}, headers)
            if reply.status != status:
                raise UnmetError(f"{model} {what}: answered {reply.status}, not {status}")
        rows = [row] * min(CROWD_ROWS, subject.settings.limits.rows_per_request)
        body = msgspec.json.encode({"rows": rows})
        _check_crowd(partial(service.ask_together, path, body, mine, CALLERS), model)
    return "401 without a key, 429 when too many wait"


def _check_crowd(ask: Callable[[], list[Reply]], model: str) -> None:
    """Ask together, again and again until somebody is sent away."""
    seen: set[int] = set()
    for _ in range(CROWD_ROUNDS):
        replies = ask()
        seen |= {reply.status for reply in replies}
        refused = [reply for reply in replies if reply.status == 429]
        if refused and "retry-after" in refused[0].headers:
            return
    raise UnmetError(f"{model}: however many wait, nobody gets 429 with Retry-After but {seen}")
