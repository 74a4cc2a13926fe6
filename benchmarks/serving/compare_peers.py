"""The service beside other model servers: the same pipeline, the same rows, in one run.

    python benchmarks/serving/compare_peers.py --work FOLDER [--only ours,fastapi] [--rounds 5]

Renders and installs a service, and installs each peer into an environment of its own below FOLDER
(about 6 GB the first time). All servers run at once, with one worker each, and are asked in turn,
round after round, so that a busy moment of the machine hits all alike. Each figure is the median
over the rounds; CPU is that of the server's processes alone. Trust CPU more than wall times.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import copier
import msgspec

sys.path.insert(0, str(Path(__file__).parent))
from caller import Measured, measure, post, processes_of

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
MODEL_LIBRARIES = (
    "scikit-learn==1.9.1",
    "numpy==2.4.6",
    "pandas==3.1.1",
    "joblib",
    "onnxruntime==1.32.0",
)
PACKAGES = {
    "fastapi": ("fastapi==0.165.0", "uvicorn[standard]==0.54.0"),
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop<0.22"),
    "bentoml": ("bentoml==1.4.40",),
    "litserve": ("litserve==0.2.19",),
    "ray": ("ray[serve]==2.60.0",),
    "mlflow": ("mlflow==3.17.2",),
}
SLOWEST_START_SECONDS = 180
SECONDS_TO_WAKE = 1.0
Rows = list[dict[str, Any]]


class Variant(msgspec.Struct, frozen=True):
    """One server in one set-up. `command` is given its port; `cost` is a guess of its CPU
    milliseconds a request, which says how many requests are enough."""

    name: str
    peer: str
    path: str
    body: Callable[[Rows], Any]
    command: Callable[[Path, int], Sequence[str]]
    environment: dict[str, str] = {}
    cost: float = 15.0


class Server:
    """A variant that runs."""

    def __init__(self, variant: Variant, work: Path) -> None:
        self.variant = variant
        self.port = _free_port()
        self.mark = f"BENCHMARK_SERVER={variant.name}"
        log = (work / "logs" / f"{variant.name.replace(' ', '_').replace(',', '')}.log").open("wb")
        environment = {
            **os.environ,
            "BENCHMARK_SERVER": variant.name,
            "BENCHMARK_MODEL": str(work / "model"),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(PEERS),
            "RAY_USAGE_STATS_ENABLED": "0",
            "BENTOML_DO_NOT_TRACK": "true",
            "MLFLOW_TRACKING_URI": str(work / "mlruns"),
            **{name: value.format(work=work) for name, value in variant.environment.items()},
        }
        self.process = subprocess.Popen(
            variant.command(work, self.port),
            cwd=work / "service" if variant.peer == "ours" else PEERS,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def wait(self, rows: Rows) -> float:
        """Return the seconds until it answers."""
        started = time.perf_counter()
        body = json.dumps(self.variant.body(rows[:1])).encode()
        url = f"http://127.0.0.1:{self.port}{self.variant.path}"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        refused: object = None
        while time.perf_counter() - started < SLOWEST_START_SECONDS:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                    answer.read()
                return time.perf_counter() - started
            except urllib.error.HTTPError as error:
                refused = error.read()[:500]
            except OSError as error:
                refused = error
            time.sleep(0.2)
        raise SystemExit(f"{self.variant.name} does not answer: {refused!r}; see its log")

    def ask(self, rows: Rows, callers: int, seconds: float) -> Measured:
        """Ask for `rows` in one request each, for about `seconds`."""
        body = json.dumps(self.variant.body(rows)).encode()
        cost = self.variant.cost * (1 if len(rows) == 1 else 4)
        count = max(callers * 4, int(seconds * 1000 / cost))
        request = post(self.port, self.variant.path, body)
        return measure(self.mark, self.port, request, callers=callers, count=count)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        for process in processes_of(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def stop(self) -> None:
        """End it, and what it has started and would leave behind."""
        self.signal(signal.SIGCONT)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.signal(signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _rows(rows: Rows) -> Any:
    return {"rows": rows}


def _records(rows: Rows) -> Any:
    return {"dataframe_records": rows}


def _tensors(rows: Rows) -> Any:
    inputs = []
    for name, value in rows[0].items():
        text = isinstance(value, str)
        inputs.append(
            {
                "name": name,
                "shape": [len(rows), 1],
                "datatype": "BYTES" if text else "FP64",
                "data": [row[name] for row in rows],
                "parameters": {"content_type": "str" if text else "np"},
            }
        )
    outputs = [{"name": "predict_proba"}]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": outputs}


def _of(peer: str, *arguments: str) -> Callable[[Path, int], Sequence[str]]:
    """Return the command of a peer: its program, with `{port}` and `{work}` filled in."""

    def command(work: Path, port: int) -> Sequence[str]:
        program, *rest = (part.format(work=work, port=port) for part in arguments)
        return [str(work / "environments" / peer / "bin" / program), *rest]

    return command


def _ours(_: Path, port: int) -> Sequence[str]:
    return [".venv/bin/acme-models", "serve", "--host", "127.0.0.1", "--port", str(port)]


ONNX = {"BENCHMARK_FORMAT": "onnx"}
_UVICORN = ("--host", "127.0.0.1", "--port", "{port}", "--no-access-log")
_FASTAPI = _of("fastapi", "uvicorn", "fastapi_service:app", *_UVICORN)
_ECHO = _of("fastapi", "uvicorn", "echo_service:app", *_UVICORN)
_LITSERVE = ("litserve", "python", "litserve_service.py", "{port}")
_RAY = ("ray", "python", "ray_service.py", "{port}")
_BENTOML = ("--host", "127.0.0.1", "--port", "{port}")


def _mlserver(name: str, settings: dict[str, Any]) -> Callable[[Path, int], Sequence[str]]:
    def command(work: Path, port: int) -> Sequence[str]:
        folder = work / "mlserver" / name
        folder.mkdir(parents=True, exist_ok=True)
        ports = {"http_port": port, "grpc_port": _free_port(), "metrics_port": _free_port()}
        server = {"host": "127.0.0.1", **ports, "debug": False}
        (folder / "settings.json").write_text(json.dumps(server))
        text = json.dumps({"name": "model", **settings}).replace("{work}", str(work))
        (folder / "model-settings.json").write_text(text)
        return [str(work / "environments/mlserver/bin/mlserver"), "start", str(folder)]

    return command


def _mlserver_variant(name: str, settings: dict[str, Any], **more: Any) -> Variant:
    command = _mlserver(name.replace(" ", "_"), settings)
    return Variant(
        f"MLServer{name}", "mlserver", "/v2/models/model/infer", _tensors, command, **more
    )


_SKLEARN = {"implementation": "mlserver_sklearn.SKLearnModel"}
_WHOLE = {"parameters": {"uri": "{work}/model/model.joblib"}}
_KEPT = {"parameters": {"uri": "{work}/model/kept/model.joblib"}}
_BATCHES = {"max_batch_size": 64, "max_batch_time": 0.005}
VARIANTS = (
    Variant("ours", "ours", "/v1/models/converted/predict", _rows, _ours, cost=0.12),
    Variant(
        "ours, kept in scikit-learn", "ours", "/v1/models/kept/predict", _rows, _ours, cost=1.5
    ),
    Variant("echo on the same HTTP server", "fastapi", "/", _rows, _ECHO, cost=0.1),
    Variant("FastAPI", "fastapi", "/predict", _rows, _FASTAPI),
    Variant("FastAPI, ONNX", "fastapi", "/predict", _rows, _FASTAPI, ONNX, cost=0.6),
    _mlserver_variant("", {**_SKLEARN, **_WHOLE}),
    _mlserver_variant(", batching", {**_SKLEARN, **_WHOLE, **_BATCHES}, cost=4),
    _mlserver_variant(
        ", ONNX", {"implementation": "mlserver_service.Graph"}, environment=ONNX, cost=4
    ),
    _mlserver_variant(", kept in scikit-learn", {**_SKLEARN, **_KEPT}),
    Variant(
        "BentoML",
        "bentoml",
        "/predict",
        _rows,
        _of("bentoml", "bentoml", "serve", "bentoml_service:Plain", *_BENTOML),
    ),
    Variant(
        "BentoML, batching",
        "bentoml",
        "/predict",
        _rows,
        _of("bentoml", "bentoml", "serve", "bentoml_service:Batching", *_BENTOML),
        cost=4,
    ),
    Variant(
        "BentoML, batching, ONNX",
        "bentoml",
        "/predict",
        _rows,
        _of("bentoml", "bentoml", "serve", "bentoml_service:Batching", *_BENTOML),
        ONNX,
        3,
    ),
    Variant("LitServe", "litserve", "/predict", _rows, _of(*_LITSERVE)),
    Variant(
        "LitServe, batching", "litserve", "/predict", _rows, _of(*_LITSERVE, "batching"), cost=4
    ),
    Variant(
        "LitServe, batching, ONNX",
        "litserve",
        "/predict",
        _rows,
        _of(*_LITSERVE, "batching"),
        ONNX,
        2,
    ),
    Variant(
        "MLflow",
        "mlflow",
        "/invocations",
        _records,
        _of(
            "mlflow",
            "mlflow",
            "models",
            "serve",
            "-m",
            "{work}/model/mlflow",
            "-p",
            "{port}",
            "-h",
            "127.0.0.1",
            "--env-manager",
            "local",
            "-w",
            "1",
        ),
        {"PATH": "{work}/environments/mlflow/bin:" + os.environ["PATH"]},
        28,
    ),
    Variant("Ray Serve", "ray", "/predict", _rows, _of(*_RAY), cost=40),
    Variant("Ray Serve, batching", "ray", "/predict", _rows, _of(*_RAY, "batching"), cost=20),
    Variant(
        "Ray Serve, batching, ONNX", "ray", "/predict", _rows, _of(*_RAY, "batching"), ONNX, 20
    ),
)


def set_up(work: Path, peers: set[str]) -> Rows:
    """Install what is missing, and return the rows to ask for."""
    service = work / "service"
    (work / "logs").mkdir(parents=True, exist_ok=True)
    rendered, template = work / "rendered_from", _template()
    if not rendered.is_file() or rendered.read_text() != template or not service.is_dir():
        shutil.rmtree(service, ignore_errors=True)
        copier.run_copy(str(ROOT), service, defaults=True, quiet=True, vcs_ref="HEAD")
        _run(["make", "setup"], service)
        _run([".venv/bin/python", str(PEERS / "fit.py"), str(work / "model")], service)
        rendered.write_text(template)
    for peer in sorted(peers - {"ours"}):
        folder = work / "environments" / peer
        if not (folder / ".installed").exists():
            print(f"installing {peer} …", flush=True)
            uv = str(Path(sys.executable).parent / "uv")
            _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], work)
            needs = [*PACKAGES[peer], *MODEL_LIBRARIES]
            python = str(folder / "bin" / "python")
            _run([uv, "pip", "install", "--quiet", "--python", python, *needs], work)
            (folder / ".installed").touch()
    if "mlflow" in peers and not (work / "model" / "mlflow").exists():
        python = str(work / "environments" / "mlflow" / "bin" / "python")
        _run([python, str(PEERS / "log_mlflow.py"), str(work / "model")], work)
    rows: Rows = json.loads((work / "model" / "rows.json").read_text())
    return rows


def _template() -> str:
    """Return what tells a state of the template from any other: its commit and what was edited."""
    return _run(["git", "rev-parse", "HEAD"], ROOT) + _run(["git", "diff", "HEAD"], ROOT)


def _run(command: Sequence[str], folder: Path) -> str:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ran.stdout[-2000:]}{ran.stderr[-3000:]}")
    return ran.stdout


def compare(servers: Sequence[Server], rows: Rows, rounds: int, seconds: float) -> None:
    """Ask every server in turn and print the table.

    Those that are not asked are stopped: some are never idle, and would slow down the others.
    """
    singles: dict[str, list[Measured]] = {s.variant.name: [] for s in servers}
    wholes: dict[str, list[Measured]] = {s.variant.name: [] for s in servers}
    for turn in range(rounds + 1):  # the first is only to warm up
        for server in servers:
            server.signal(signal.SIGCONT)
            time.sleep(SECONDS_TO_WAKE)
            single = server.ask(rows[turn : turn + 1], 32, seconds)
            whole = server.ask(rows, 2, seconds)
            server.signal(signal.SIGSTOP)
            if turn:
                singles[server.variant.name].append(single)
                wholes[server.variant.name].append(whole)
        print(f"round {turn} of {rounds}", file=sys.stderr, flush=True)
    print("| server | CPU ms a request | requests/s | p50 ms | rows/s in 1,000-row requests |")
    print("|---|---|---|---|---|")
    for server in servers:
        single_rounds = singles[server.variant.name]
        cpu = statistics.median(one.cpu_milliseconds for one in single_rounds)
        rate = statistics.median(one.requests_per_second for one in single_rounds)
        wait = statistics.median(one.median_milliseconds for one in single_rounds)
        whole_rate = statistics.median(
            one.requests_per_second * len(rows) for one in wholes[server.variant.name]
        )
        name = server.variant.name
        print(f"| {name} | {cpu:.3f} | {rate:,.0f} | {wait:.1f} | {whole_rate:,.0f} |", flush=True)


def main() -> None:
    """Install, start, compare, stop."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder for environments")
    parser.add_argument("--only", help="peers, separated by commas; all of them without it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of CPU for each measurement")
    given = parser.parse_args()
    work = given.work.resolve()
    chosen = set(given.only.split(",")) if given.only else {variant.peer for variant in VARIANTS}
    rows = set_up(work, chosen)
    servers: list[Server] = []
    try:
        for variant in (each for each in VARIANTS if each.peer in chosen):
            servers.append(Server(variant, work))
            print(f"{variant.name}: answers after {servers[-1].wait(rows):.1f} s", file=sys.stderr)
            servers[-1].signal(signal.SIGSTOP)
        compare(servers, rows, given.rounds, given.seconds)
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
