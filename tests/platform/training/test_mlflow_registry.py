"""`import --mlflow` and `push --mlflow`, with a real MLflow server in an environment of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from model_service.registry.loaded_version import load_version
from model_service.registry.registry import Registry
from model_service.training import TrainingError, train
from model_service.training.mlflow_registry import fetch_model
from tests.platform.training.small_repository import make_repository
from tests.rendering import ROOT, TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from model_service.repository import Repository

NEEDED = "mlflow msgspec onnx onnxruntime pandas pyyaml rich scikit-learn skl2onnx skops typer"
PUT_A_MODEL_THERE = """
import mlflow, pandas, sys
import mlflow.sklearn
from sklearn.linear_model import LinearRegression
mlflow.MlflowClient().set_registered_model_alias("fruit", "best", "1")
data = pandas.read_csv(sys.argv[1])
line = LinearRegression().fit(data[["length"]], data["weight"])
mlflow.sklearn.log_model(line, name="line", registered_model_name="line")
"""


class MlflowServer:
    """A server, and a Python that has MLflow."""

    def __init__(self, folder: Path) -> None:
        self._python = folder / "venv/bin/python"
        uv = str(TOOLS / "uv")
        subprocess.run(
            [uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True
        )
        pinned = ["--constraint", str(ROOT / "template/config/constraints.txt")]
        install = [uv, "pip", "install", "--quiet", "--python", str(self._python)]
        subprocess.run([*install, *pinned, *NEEDED.split()], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        stores += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
        address = ["--host", "127.0.0.1", "--port", str(port)]
        self.process = subprocess.Popen(
            [self._python, "-m", "mlflow", "server", *address, *stores], start_new_session=True
        )

    def wait(self) -> None:
        """Return once it answers."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):  # noqa: S310 - ours
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the MLflow server does not start")

    def run(self, *arguments: object) -> str:
        """Run Python with these arguments and return what it printed."""
        ran = subprocess.run(
            [str(word) for word in (self._python, *arguments)],
            env={
                **os.environ,
                "COLUMNS": "200",
                "PYTHONPATH": str(ROOT / "template/src"),
                "MLFLOW_TRACKING_URI": self.url,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def command(self, repository: Repository, *arguments: object) -> str:
        """Run the service's command and return what it printed."""
        return self.run("-m", "model_service", "--repository", repository.root, *arguments)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path)
    try:
        server.wait()
        yield server
    finally:
        os.killpg(server.process.pid, 9)
        server.process.wait()


@pytest.mark.nightly
def test_versions_go_to_mlflow_and_models_come_from_there(
    server: MlflowServer, tmp_path: Path
) -> None:
    repository = make_repository(tmp_path / "service")
    train(repository, "fruit")
    assert "logged as models:/fruit/1" in server.command(repository, "push", "fruit", "--mlflow")
    again = server.command(repository, "push", "fruit", "--mlflow")
    assert "was there already as models:/fruit/1" in again

    data = pd.read_csv(repository.root / "data.csv").dropna()
    whole, lines = repository.root / "whole.csv", repository.root / "lines.csv"
    data.to_csv(whole, index=False)
    data[["length", "weight"]].to_csv(lines, index=False)
    server.run("-c", PUT_A_MODEL_THERE, lines)

    taken = ["--mlflow", "models:/fruit@best", "--data", whole]
    assert "version 2 (onnx)" in server.command(repository, "import", "fruit", *taken)
    registry = Registry(repository.root / "registry")
    one, two = (load_version(registry.folder("fruit", number)) for number in "12")
    assert two.manifest.imported is not None
    assert two.manifest.imported.name == "models:/fruit@best"
    rows = one.reader.read_rows([golden.row for golden in one.golden]).values
    assert one.predict(rows).values == two.predict(rows).values

    taken = ["--mlflow", "models:/line/1", "--data", lines, "--target", "weight", "--allow-pickle"]
    assert "version 1 (onnx)" in server.command(repository, "import", "line", *taken)


def test_without_mlflow_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrainingError, match=r"\.\[mlflow\]"):
        fetch_model("models:/fruit@best", tmp_path)
    with pytest.raises(TrainingError, match="no model of MLflow"):
        fetch_model("fruit", tmp_path)
