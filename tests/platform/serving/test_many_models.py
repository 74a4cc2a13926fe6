"""Twenty models with three versions each in one process: each answers as itself, at little cost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.platform.serving.many_versions import repository_with
from tests.platform.serving.server_process import SOURCES, ServerProcess, real_server

MAKE = Path(__file__).with_name("onnx_versions.py")
MODELS = [f"model_{number:03}" for number in range(20)]
VERSIONS = ("1", "2", "3")
MOST_MEGABYTES_A_VERSION = 1.5
MOST_CPU_SECONDS = 6.0
ROW = {"a": 1.5, "b": 2.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    tiny, folder = tmp_path_factory.mktemp("tiny"), tmp_path_factory.mktemp("many")
    command = [sys.executable, str(MAKE), str(tiny), "adds"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(SOURCES)})
    repository_with([tiny / "registry/adds/1"], folder, len(MODELS), len(VERSIONS))
    entry = {"champion": "2", "challengers": {"3": 10}, "pinned": ["1"], "history": []}
    (folder / "traffic.yaml").write_text(yaml.safe_dump({"models": dict.fromkeys(MODELS, entry)}))
    with real_server(folder, MODEL_SERVICE_STORES__PREDICTION_LOG="") as running:
        yield running


def test_every_version_of_every_model_answers_as_itself(server: ServerProcess) -> None:
    assert server.client.get("/readyz").status_code == 200
    for model in MODELS:
        for version in VERSIONS:
            path = f"/v1/models/{model}/versions/{version}/predict"
            answer = server.client.post(path, json={"rows": [ROW]}).json()
            assert (answer["model"], answer["version"]) == (model, version)
            assert answer["rows"][0]["value"] == 3.5
        for alias, version in (("champion", "2"), ("challenger", "3")):
            path = f"/v2/models/{model}/versions/{alias}"
            assert server.client.get(f"{path}/ready").status_code == 200
            answer = server.client.post(
                f"/v1/models/{model}/versions/{alias}/predict", json={"rows": [ROW]}
            ).json()
            assert (answer["version"], answer["alias"]) == (version, alias)
    text = server.client.get("/metrics").text
    ready = [line for line in text.splitlines() if 'state="ready"' in line]
    assert len(ready) == len(MODELS) * len(VERSIONS)
    assert len(server.client.get("/openapi.json").json()["paths"]) >= 2 * len(MODELS)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc: Linux only")
def test_a_version_costs_little_memory_and_start_up(server: ServerProcess) -> None:
    """`benchmarks/serving/many_models.py` measures the cost exactly."""
    statm = Path(f"/proc/{server.process.pid}/statm").read_text()
    megabytes = int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert megabytes < 120 + MOST_MEGABYTES_A_VERSION * len(MODELS) * len(VERSIONS)
    stat = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    assert cpu < MOST_CPU_SECONDS
