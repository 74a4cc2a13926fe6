"""The service keeps every promise of its OpenAPI document, whatever is sent that fits or does not.

What is generated from the schema of each model must be answered, and what breaks it refused.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.answers import Caller

pytestmark = pytest.mark.conformance
CONFIGURATION = """
# In its place stands the check of refusals.py, which knows that rows are refused one by one.
[checks]
negative_data_rejection.enabled = false

# What ground truth is about depends on what was answered before: no schema can say that.
[[operations]]
include-path = "/v1/ground-truth"
checks.positive_data_acceptance.enabled = false
"""


def test_what_the_document_says_is_what_the_service_does(caller: Caller, tmp_path: Path) -> None:
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(CONFIGURATION, encoding="utf-8")
    document = f"{caller.client.base_url}/openapi.json"
    command = [str(Path(sys.executable).with_name("st")), "--config-file", str(settings), "run"]
    options = ["--max-examples", "50", "--generation-deterministic", "--no-color"]
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    ran = subprocess.run(
        [*command, document, *options],
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "refusals", "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-20_000:]
