"""The server over real ONNX versions: light, quick, and deaf to files that were changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.platform.serving.server_process import SOURCES, ServerProcess

MAKE = Path(__file__).with_name("onnx_versions.py")
SERVE = """
import os, sys
from pathlib import Path
from model_service.repository import Repository
from model_service.serving.server import serve
from model_service.settings import read_settings
repository = Repository(Path(sys.argv[1]))
overrides = {"MODEL_SERVICE_SERVER__PORT": "0", "MODEL_SERVICE_SERVER__DRAIN_SECONDS": "0"}
serve(read_settings(repository, overrides), repository)
heavy = {"pandas", "sklearn", "scipy", "onnx", "skl2onnx", "skops", "joblib"} & set(sys.modules)
print("imported:", sorted(heavy), file=sys.stderr, flush=True)
"""
ROW = {"a": 1.5, "b": 2.0}
SECONDS_UNTIL_READY = 2.0
RESIDENT_MEGABYTES = 150


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    sources = os.environ.get("PYTHONPATH", str(SOURCES))
    subprocess.run(
        [sys.executable, str(MAKE), str(folder), "adds", "sums", *DAMAGES],
        check=True,
        env={**os.environ, "PYTHONPATH": sources},
    )
    return folder


@pytest.fixture
def repository(trained: Path, tmp_path: Path) -> Path:
    """A copy of one's own."""
    return Path(shutil.copytree(trained, tmp_path / "repository"))


@contextmanager
def serving(repository: Path) -> Iterator[ServerProcess]:
    server = ServerProcess([sys.executable, "-c", SERVE, str(repository)])
    try:
        server.wait_until_loaded()
        yield server
    finally:
        server.stop()


def ask(server: ServerProcess, model: str) -> int:
    return server.client.post(f"/v1/models/{model}/predict", json={"rows": [ROW]}).status_code


def resident_megabytes(server: ServerProcess) -> float:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(server: ServerProcess) -> float:
    stat = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc: Linux only")
def test_serving_onnx_is_light_and_imports_no_library_for_training(repository: Path) -> None:
    with serving(repository) as server:
        assert server.client.get("/readyz").status_code == 200
        # CPU time, since other tests may run beside this one.
        assert cpu_seconds(server) < SECONDS_UNTIL_READY
        answer = server.client.post("/v1/models/adds/predict", json={"rows": [ROW, {"b": 4.0}]})
        assert [row["value"] for row in answer.json()["rows"]] == [3.5, 5.0]
        assert resident_megabytes(server) < RESIDENT_MEGABYTES
        for path in ("/docs", "/openapi.json", "/metrics", "/v1/models"):
            assert server.client.get(path).status_code == 200
        server.stop()
        deadline = time.monotonic() + 5
        while not any("imported:" in line for line in server.told):
            assert time.monotonic() < deadline, server.told
            time.sleep(0.02)
        assert "imported: []\n" in server.told


def flip_a_byte(folder: Path) -> None:
    model = folder / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)


def remove_the_model(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def edit_the_frozen_code(folder: Path) -> None:
    (folder / "features.py").write_text("raise SystemExit('code that nobody trained')")


def empty_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (flip_a_byte, r"model\.onnx"),
    "missing": (remove_the_model, r"model\.onnx"),
    "edited": (edit_the_frozen_code, r"features\.py"),
    "emptied": (empty_the_manifest, r"manifest\.json"),
    "removed": (shutil.rmtree, "no version"),
}


def test_versions_that_were_changed_stay_out_and_the_others_serve(repository: Path) -> None:
    for name, (damage, _) in DAMAGES.items():
        damage(repository / "registry" / name / "1")
    with serving(repository) as server:
        for name, (_, reason) in DAMAGES.items():
            model = server.client.get(f"/v1/models/{name}").json()
            assert model["state"] == "failed", name
            assert re.search(reason, model["reason"]), model["reason"]
            assert ask(server, name) == 503
        assert (ask(server, "sums"), ask(server, "adds")) == (200, 200)
        assert server.client.get("/readyz").status_code == 503


def test_golden_predictions_that_come_out_differently_keep_a_version_out(repository: Path) -> None:
    reseal = """
import sys
from pathlib import Path
import msgspec
from model_service.registry.manifest import digests_of, read_manifest, write_manifest
folder = Path(sys.argv[1])
manifest = read_manifest(folder)
golden = folder / "golden.jsonl"
golden.write_text(golden.read_text().replace("3.5", "3.6"))
write_manifest(folder, msgspec.structs.replace(manifest, files=digests_of(folder)))
"""
    folder = repository / "registry" / "sums" / "1"
    sources = os.environ.get("PYTHONPATH", str(SOURCES))
    subprocess.run(
        [sys.executable, "-c", reseal, str(folder)],
        check=True,
        env={**os.environ, "PYTHONPATH": sources},
    )
    assert json.loads((folder / "golden.jsonl").read_text())["value"] == 3.6
    with serving(repository) as server:
        (version,) = server.client.get("/v1/models/sums").json()["versions"]
        assert (version["state"], version["code"]) == ("failed", "golden_mismatch")
        assert "golden predictions are answered differently" in version["reason"]
        assert (ask(server, "sums"), ask(server, "adds")) == (503, 200)
