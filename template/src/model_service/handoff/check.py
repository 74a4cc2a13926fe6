"""`handoff check`: each item proven, and what came of it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence

from model_service.handoff.items import Item, Team
from model_service.handoff.outcome import (
    PROOFS,
    NotProvenError,
    Result,
    SkippedError,
    State,
    UnmetError,
)
from model_service.handoff.proofs import load_proofs
from model_service.handoff.signature import check_signatures
from model_service.handoff.subject import Subject
from model_service.handoff.waiver import Waiver, read_waivers

ALL_MET, UNMET, BROKEN, SKIPPED = 0, 1, 2, 3


def check(
    subject: Subject,
    items: Sequence[Item],
    *,
    quick: bool = False,
    named: bool = False,
    report: Callable[[Item], None] = lambda _: None,
) -> list[Result]:
    """Prove items one after the other. Items that are `named` are tried whatever the level says,
    and are required whatever the date is.

    Raises:
        WaiverError, SignatureError: a file of the handoff is not understood.
    """
    load_proofs()
    waivers = read_waivers(subject.repository)
    results = []
    for item in items:
        report(item)
        results.append(_result(subject, item, waivers.get(item.id), quick=quick, named=named))
    return results


def exit_code(results: Sequence[Result]) -> int:
    """Return 0 if everything required is met, 1 if something is not, 2 if a proof itself broke,
    3 if something required was skipped."""
    required = [result for result in results if result.required]
    if any(result.state == "broken" for result in results):
        return BROKEN
    if any(result.is_open for result in required):
        return UNMET
    return SKIPPED if any(result.state == "skipped" for result in required) else ALL_MET


def _result(
    subject: Subject, item: Item, waiver: Waiver | None, *, quick: bool, named: bool
) -> Result:
    level, launch = subject.settings.level, subject.settings.launch_date
    due = item.due(launch)
    asked = named or item.is_asked_of(level)
    required = named or (asked and due is not None and due <= subject.today)
    begun = time.perf_counter()
    team, state, line = _tried(subject, item, quick=quick, asked=asked)
    seconds = round(time.perf_counter() - begun, 3)
    if waiver is not None and state in ("fail", "stale", "skipped"):
        if waiver.until < subject.today:
            state, line = "fail", f"the waiver of {waiver.by} ended on {waiver.until}; {line}"
        elif waiver.given <= subject.today:
            state = "waived"
            line = f"until {waiver.until} by {waiver.by}: {waiver.reason} ({line})"
    return Result(item, team, state, line, due, required, seconds, not asked)


def _tried(subject: Subject, item: Item, *, quick: bool, asked: bool) -> tuple[Team, State, str]:
    if not asked:
        level = subject.settings.level
        return item.team, "skipped", f"asked of level {item.level}, and this service is {level}"
    if quick and item.slow:
        return item.team, "skipped", "takes longer than a quick check"
    try:
        return item.team, "pass", _evidence(subject, item)
    except NotProvenError as error:
        return error.team or item.team, error.state, _first_line(str(error))
    except Exception as error:  # noqa: BLE001 - the proof broke; the other items are tried
        return item.team, "broken", _first_line(f"{type(error).__name__}: {error}")


def _evidence(subject: Subject, item: Item) -> str:
    words = []
    proof = PROOFS.get(item.id)
    if proof is not None:
        words.append(proof(subject))
    elif item.kind != "sign-off":
        raise SkippedError("this version of the service has no proof for it")
    if item.signers:
        words.append(check_signatures(subject.repository, item, subject.today))
    if not words:
        raise UnmetError("nothing says that it holds")
    return "; ".join(words)


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else "no reason was given")[:400]


def today_of(given: dt.datetime | None) -> dt.date:
    """Return the day to check for: the one given, or today."""
    return (given or dt.datetime.now(dt.UTC)).date()
