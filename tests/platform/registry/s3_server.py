"""An S3 server as a process of its own, and a way to it that can be cut."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import boto3

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "models"
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "no-secret",  # the server of these tests asks for none
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def s3_server() -> Iterator[int]:
    """Run the server with an empty bucket and give its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"Running on http://127\.0\.0\.1:(\d+)", line)
            if found:
                break
        else:
            raise AssertionError("the S3 server did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        port = int(found.group(1))
        bucket(port).create()
        yield port
    finally:
        process.kill()
        process.wait()


def bucket(port: int) -> Any:
    """Return the bucket, asked past everything that is tested."""
    resource = boto3.resource(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=ACCOUNT["AWS_DEFAULT_REGION"],
        aws_access_key_id=ACCOUNT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ACCOUNT["AWS_SECRET_ACCESS_KEY"],
    )
    return resource.Bucket(BUCKET)


class CutWay:
    """A TCP proxy that lets `budget` more bytes through, and cuts every connection from then on."""

    def __init__(self, port: int) -> None:
        self.budget: float = float("inf")
        self.passed = 0
        self._target = port
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                with self._lock:
                    allowed = content[: int(min(len(content), max(self.budget, 0)))]
                    self.budget -= len(content)
                    self.passed += len(allowed)
                sink.sendall(allowed)
                if len(allowed) < len(content):
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
