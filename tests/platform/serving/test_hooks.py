"""The team's hooks in a running service: heard, isolated, counted and named."""

from __future__ import annotations

import http.server
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model_service import hooks
from model_service.hooks import HooksError, load_hooks
from tests.platform.serving.server_process import SOURCES, stub_server
from tests.platform.serving.test_prediction_log import SERVICE, ask, metric, wait_for
from tests.rendering import ROOT

ROW = {"a": 1, "b": 2, "how": "well"}
RECORDING = """
import msgspec
from pathlib import Path
HERE = Path(__file__).parent
def write(name, event):
    with (HERE / f"{name}.jsonl").open("ab") as stream:
        stream.write(msgspec.json.encode(event) + b"\\n")
def on_load(event): write("on_load", event)
def on_prediction(rows): write("on_prediction", rows)
def on_rejection(event): write("on_rejection", event)
def on_ground_truth(truths): write("on_ground_truth", truths)
"""


def events(folder: Path, name: str, count: int) -> list[Any]:
    path = folder / f"{name}.jsonl"
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, f"{name} is heard")
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_hooks_hear_of_versions_answers_refusals_and_truth(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(RECORDING)
    with stub_server(tmp_path, script=SERVICE) as server:
        person = {"customer": 7, "email": "planted@x", "town": "Ulm", "age": 30}
        answer = ask(server, person, {"customer": "planted", "planted": 1}, model="people")
        prediction_id = answer["rows"][0]["prediction_id"]
        [rows] = events(tmp_path, "on_prediction", 1)
        truths = {"ground_truth": [{"prediction_id": prediction_id, "value": "stays"}]}
        server.client.post("/v1/ground-truth", json=truths)
        ask(server, {**ROW, "plantedfield": 1})
        tensor = {"name": "a", "shape": [1], "datatype": "FP64", "data": ["planted"]}
        server.client.post("/v2/models/sums/infer", json={"inputs": [tensor]})
        rejection, unknown, of_tensors = events(tmp_path, "on_rejection", 3)
        [[told]] = events(tmp_path, "on_ground_truth", 1)
        loaded = events(tmp_path, "on_load", 4)
        wait_for(
            lambda: metric(server, 'hook_calls_total{hook="on_prediction",result="ok"}') == 1,
            "the call is counted",
        )

    assert [row["prediction_id"] for row in rows] == [prediction_id]
    assert rows[0]["used"]["email"].startswith("hashed:")
    assert (rejection["model"], rejection["problem"]) == ("people", "rows-rejected")
    assert ["/rows/1/customer", "wrong_type"] in rejection["faults"]
    assert (unknown["model"], unknown["faults"]) == ("sums", [["/rows/0", "unknown_field"]])
    assert (of_tensors["model"], of_tensors["problem"]) == ("sums", "rows-rejected")
    assert ["/rows/0/a", "wrong_type"] in of_tensors["faults"]
    assert (told[0]["prediction_id"], told[1]) == (prediction_id, "matched")
    assert {(one["model"], one["state"]) for one in loaded} >= {("people", "ready")}
    everything = b"".join(path.read_bytes() for path in tmp_path.glob("on_*.jsonl"))
    assert b"planted" not in everything


def test_a_hook_that_raises_or_hangs_costs_no_answer_and_is_counted_and_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "hooks.py").write_text(
        "import time\n"
        "def on_prediction(rows): raise ValueError('secret value')\n"
        "def on_rejection(event): time.sleep(3600)\n"
        "def on_ground_truth(truths): raise SystemExit\n"
    )
    with stub_server(tmp_path) as server:
        for _ in range(3):
            assert ask(server, ROW)["rows"][0]["value"] == 3.0
            server.client.post("/v1/models/sums/predict", json={"rows": [{}]})
        truths = {"ground_truth": [{"prediction_id": "a-1", "value": 1}]}
        assert server.client.post("/v1/ground-truth", json=truths).status_code == 200
        for hook, result in (
            ("on_prediction", "failed"),
            ("on_ground_truth", "failed"),
            ("on_rejection", "hung"),
        ):
            line = f'hook_calls_total{{hook="{hook}",result="{result}"}}'
            wait_for(lambda line=line: metric(server, line) > 0, line)  # type: ignore[misc]
        started = time.monotonic()
        assert ask(server, ROW)["rows"][0]["value"] == 3.0
        assert time.monotonic() - started < 5
    said = [line["body"] for line in server.log]
    assert any("on_prediction of hooks.py raised ValueError" in line for line in said)
    assert any("on_rejection of hooks.py has not returned" in line for line in said)
    assert "secret value" not in str(server.log)


def test_events_that_a_hook_cannot_keep_up_with_are_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text("import time\ndef on_load(event): time.sleep(3600)\n")
    told: list[str] = []
    found = load_hooks(tmp_path, told.append)
    for _ in range(hooks.MOST_WAITING + 50):
        found.offer("on_load", "x")
    assert found.count("on_load", "dropped") in (49, 50)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def on_predictoin(rows): ...", "on_predictoin, which is no hook. Hooks: on_load, on_pre"),
        ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
        ("import sys; sys.exit()", "cannot be imported: SystemExit"),
    ],
)
def test_hooks_that_would_never_be_called_keep_the_service_from_starting(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "hooks.py").write_text(text)
    with pytest.raises(HooksError, match=re.escape(said)):
        load_hooks(tmp_path, print)


def example(heading: str) -> str:
    """Return the code of an example in the documentation."""
    text = (ROOT / "template/docs/hooks.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {heading}\n.*?```python\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@contextmanager
def receiver(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_the_example_that_tells_a_chat_about_drift_tells_it(tmp_path: Path) -> None:
    heard: list[Any] = []

    class Chat(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    (tmp_path / "hooks.py").write_text(example("Tell a chat about drift"))
    offer = (
        "import sys\nfrom pathlib import Path\nfrom types import SimpleNamespace\n"
        "from model_service.hooks import load_hooks\n"
        "hooks = load_hooks(Path(sys.argv[1]), print)\n"
        "hooks.offer('on_drift', SimpleNamespace(model='people', version='3', feature='age',"
        " kind='missing'))\n"
        "hooks.wait(30)\n"
    )
    with receiver(http.server.HTTPServer(("127.0.0.1", 0), Chat)) as port:
        subprocess.run(
            [sys.executable, "-c", offer, str(tmp_path)],
            check=True,
            env={
                **os.environ,
                "PYTHONPATH": str(SOURCES),
                "CHAT_WEBHOOK": f"http://127.0.0.1:{port}/hook",
                "no_proxy": "127.0.0.1",
            },
        )
    assert heard == [{"text": "people version 3: age drifted (missing)"}]


def test_the_example_that_pushes_predictions_pushes_every_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[Any] = []

    class Queue(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            lines.extend(json.loads(line) for line in self.rfile)

    (tmp_path / "hooks.py").write_text(example("Push predictions to a queue"))
    with receiver(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Queue)) as port:
        monkeypatch.setenv("PREDICTIONS_TO", f"127.0.0.1:{port}")
        with stub_server(tmp_path) as server:
            ids = [row["prediction_id"] for row in ask(server, ROW, ROW, ROW)["rows"]]
            wait_for(lambda: len(lines) == 3, "three predictions are pushed")
    assert [line["prediction_id"] for line in lines] == ids
    assert lines[0]["used"] == {"a": 1.0, "b": 2.0, "how": "well"}
