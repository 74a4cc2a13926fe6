"""Runs the tests of all models under pytest, and writes what each of them did into a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model_service.registry import loaded_version


class Recorder:
    """Notes of each test how it ended, and how often it had features() of a version computed."""

    def __init__(self) -> None:
        self.tests: list[tuple[str, str, bool, int]] = []
        self.calls = 0

    def pytest_runtest_setup(self) -> None:
        """Begin to count."""
        self.calls = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that ran, or one that could not be set up."""
        if report.when == "call" or report.failed:
            is_behaviour = "behaviour" in report.keywords
            self.tests.append((report.nodeid, report.outcome, is_behaviour, self.calls))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that cannot be read."""
        if report.failed:
            self.tests.append((report.nodeid, "failed", False, 0))


def main(result: Path) -> None:
    """Run the tests of the repository that is the working directory."""
    recorder = Recorder()
    module = vars(loaded_version)
    real = module["features_of"]

    def counting(source: bytes, name: str, path: str) -> Any:
        compute = real(source, name, path)

        def features(columns: Mapping[str, Any]) -> Any:
            recorder.calls += 1
            return compute(columns)

        return features

    module["features_of"] = counting
    options = ["-c", "config/pytest.ini", "--rootdir", ".", "-q", "-p", "no:cacheprovider"]
    pytest.main([*options, "models"], plugins=[recorder])
    result.write_bytes(msgspec.json.encode(recorder.tests))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
