"""From nothing to the first answers: render a service, train its example models, serve, and ask.

Runs what a data scientist would type and prints it, so that the demo can be repeated by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
SERVICE = "acme-models"
READY_WITHIN_SECONDS = 60

CLEAN = {
    "island": "Torgersen",
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "flipper_length_mm": 181,
    "body_mass_g": 3750,
    "sex": "male",
}
DIRTY = {**CLEAN, "island": "Atlantis", "sex": None}


class Stopwatch:
    """Prints each step with the seconds it took, and the sum of them."""

    def __init__(self) -> None:
        self.total = 0.0

    @contextmanager
    def step(self, words: str) -> Iterator[None]:
        """Say what is being done, and after it how long it took."""
        print(f"\n\N{BLACK RIGHT-POINTING TRIANGLE} {words}", flush=True)
        begun = time.perf_counter()
        yield
        took = time.perf_counter() - begun
        self.total += took
        print(f"  {took:.1f} s", flush=True)


def run(*command: str | Path, folder: Path) -> None:
    """Show a command, and run it; the demo ends if it fails.

    Raises:
        SystemExit: the command failed; what it printed is on the screen.
    """
    print("  $ " + " ".join(str(word) for word in command), flush=True)
    ended = subprocess.run(command, cwd=folder, check=False)
    if ended.returncode:
        raise SystemExit(f"The demo stopped: this command ended with {ended.returncode}.")


def empty_destination(destination: Path) -> None:
    """Make way for a new service, but only where an earlier demo was.

    Raises:
        SystemExit: the folder holds something else, which is left as it is.
    """
    if not destination.exists() or not any(destination.iterdir()):
        return
    if not (destination / ".copier-answers.yml").exists():
        raise SystemExit(f"{destination} is not empty and no demo: name another one with DEST=.")
    shutil.rmtree(destination)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def answer_of(url: str, body: object = None) -> Any:
    """What the service answers as JSON, errors included: those have one shape as well."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as refusal:
        return json.load(refusal)


def wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until every model is loaded and its golden predictions were replayed.

    Raises:
        SystemExit: the server ended, or is not ready in time.
    """
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"The server ended with {server.returncode} before it was ready.")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"The server is not ready after {READY_WITHIN_SECONDS} s: see {url}/readyz")


def ask(url: str, words: str, row: dict[str, Any]) -> None:
    """Ask both models about a row, and print what they answer."""
    print(f"\n  {words}\n    {json.dumps(row)}")
    for model, unknown in [("penguin_species", set[str]()), ("penguin_mass", {"body_mass_g"})]:
        features = {name: value for name, value in row.items() if name not in unknown}
        answer = answer_of(f"{url}/v1/models/{model}/predict", {"rows": [features]})
        print(f"\n  {model}:")
        for line in json.dumps(answer, indent=2, ensure_ascii=False).splitlines():
            print(f"    {line}")


def serve_and_ask(service: Path, watch: Stopwatch, *, keep_serving: bool) -> None:
    """Start the service on a free port, ask it twice, and stop it or leave it running."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(service / ".venv/bin" / SERVICE), "serve", "--port", str(port)]
    with (service / "serve.log").open("wb") as log:
        with watch.step(f"Serve both models at {url}"):
            print(f"  $ .venv/bin/{SERVICE} serve --port {port}", flush=True)
            server = subprocess.Popen(command, cwd=service, stdout=log, stderr=log)
        try:
            with watch.step("Replay the golden predictions, then answer"):
                wait_until_ready(url, server)
            ask(url, "A clean row:", CLEAN)
            ask(url, "A dirty row: an island nobody has seen, and no sex.", DIRTY)
            print(f"\nFrom nothing to the first answers: {watch.total:.1f} s.")
            say_what_to_try_next(service, url if keep_serving else None)
            if keep_serving:
                server.wait()
        except KeyboardInterrupt:
            print("\nStopped.")
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)


def say_what_to_try_next(service: Path, url: str | None) -> None:
    """Print commands worth typing next."""
    shown = os.path.relpath(service)
    print(f"\nTry next, in {shown}:")
    if url:
        print(f"  open {url}/docs                                  # Ctrl-C here ends the server")
    else:
        print("  make serve                                       # then open /docs there")
    print(f"  .venv/bin/{SERVICE} list                      # models, versions, who answers")
    print(f"  .venv/bin/{SERVICE} show penguin_species      # metrics, features, golden replay")
    print(f"  .venv/bin/{SERVICE} new churn --data your.csv --target left")
    print("  make check test                                  # what every model is tested for")


def main() -> None:
    """Run the demo in the folder the caller names."""
    # A shell starts what runs in the background deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--destination", type=Path, default=ROOT / "demo")
    parser.add_argument("--serve", action="store_true", help="keep serving until Ctrl-C")
    arguments = parser.parse_args()
    service: Path = arguments.destination.resolve()
    empty_destination(service)
    watch = Stopwatch()
    copier = Path(sys.executable).parent / "copier"
    with watch.step("Render a service from the template"):
        run(
            copier,
            *["copy", "--quiet", "--defaults", "--vcs-ref", "HEAD"],
            *["--data", f"service_name={SERVICE}", str(ROOT), str(service)],
            folder=ROOT,
        )
    with watch.step("Install it into an environment of its own"):
        run("make", "--no-print-directory", "setup", f"PYTHON={sys.executable}", folder=service)
    with watch.step("Train both example models on real data"):
        run("make", "--no-print-directory", "train", folder=service)
    serve_and_ask(service, watch, keep_serving=arguments.serve)


if __name__ == "__main__":
    main()
