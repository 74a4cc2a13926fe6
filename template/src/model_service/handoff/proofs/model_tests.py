"""The tests of the models, run once for all items that ask about them."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from weakref import WeakKeyDictionary

import msgspec

from model_service.handoff.outcome import SkippedError, UnmetError
from model_service.handoff.subject import Subject

RUNNER = Path(__file__).with_name("model_tests_run.py")
_RUNS: WeakKeyDictionary[Subject, TestsRun] = WeakKeyDictionary()


class TestsRun(msgspec.Struct, frozen=True):
    """What came of the tests: by model how many passed, and how often features() was called."""

    passed: dict[str, int]
    behaviour: dict[str, int]
    feature_calls: dict[str, int]
    failed: str = ""

    @property
    def line(self) -> str:
        """What passed, in words."""
        return ", ".join(f"{model}: {count} tests pass" for model, count in self.passed.items())


def models_tested(subject: Subject) -> TestsRun:
    """Run the tests in the folders of all models, or say what they found before."""
    if subject not in _RUNS:
        _RUNS[subject] = _run(subject)
    run = _RUNS[subject]
    if run.failed:
        raise UnmetError(run.failed)
    return run


def _run(subject: Subject) -> TestsRun:
    subject.champions  # noqa: B018 - tests load the champions: without them there is nothing to run
    result = subject.folder("model-tests") / "result.json"
    ran = subject.run(sys.executable, str(RUNNER), str(result))
    if not result.is_file():
        if "No module named 'pytest'" in ran.stdout:
            raise SkippedError("pytest is not installed here")
        raise UnmetError(ran.stdout.strip().rpartition("\n")[2] or "the tests cannot be run")
    found = msgspec.json.decode(result.read_bytes(), type=list[tuple[str, str, bool, int]])
    run = TestsRun(Counter(), Counter(), Counter())
    for node, outcome, is_behaviour, calls in found:
        model = node.split("/")[1] if node.startswith("models/") else ""
        if outcome == "failed":
            return msgspec.structs.replace(run, failed=f"{node} fails")
        if outcome == "passed":
            run.passed[model] = run.passed.get(model, 0) + 1
            run.behaviour[model] = run.behaviour.get(model, 0) + is_behaviour
        run.feature_calls[model] = run.feature_calls.get(model, 0) + calls
    return run
