"""A real PostgreSQL server on a free port of this machine, from Debian's package."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

ACCOUNT = "postgres"


class PostgresqlServer:
    """A server that can be stopped and started again; `url` is that of its administrator."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://{ACCOUNT}@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "--auth=trust", "--no-sync", f"--username={ACCOUNT}")

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off"
        options += f" -c unix_socket_directories={self._folder}"
        self._run("pg_ctl", "start", "--wait", f"--log={self._folder}/log", f"--options={options}")

    def stop(self) -> None:
        """Stop at once, whoever is connected."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def new_log(self) -> str:
        """Return the URL of an empty place for a prediction log: a schema of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute("SELECT count(*) FROM pg_namespace").fetchone()
            assert found is not None
            name = f"log_{found[0]}"
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self.url}?options=-csearch_path%3D{name}"

    def _run(self, command: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / command), f"--pgdata={self._folder}/data", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            user=ACCOUNT if os.getuid() == 0 else None,  # it refuses to run as root
        )


@contextmanager
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Run a server; skip the test where Debian's package is not installed, and fail it in CI."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        missing = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if os.getuid() == 0:
        shutil.chown(folder, ACCOUNT)
    server = PostgresqlServer(found[-1], folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
