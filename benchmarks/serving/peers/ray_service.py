"""Ray Serve: `python ray_service.py PORT [batching]`."""

from __future__ import annotations

import sys
import time
from typing import Any

import model
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=256)
class Plain:
    """Answers each request by itself."""

    def __init__(self) -> None:
        self.answer = model.load()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer rows."""
        return {"probabilities": self.answer((await request.json())["rows"])}


@serve.deployment(max_ongoing_requests=256)
class Batching:
    """Answers the requests that come together by one call."""

    def __init__(self) -> None:
        self.answer = model.load()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.005)
    async def together(self, requests: list[list[dict[str, Any]]]) -> list[Any]:
        """Answer the rows of several requests."""
        taken = iter(self.answer([row for rows in requests for row in rows]))
        return [[next(taken) for _ in rows] for rows in requests]

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer rows."""
        return {"probabilities": await self.together((await request.json())["rows"])}


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    chosen = Batching if "batching" in sys.argv else Plain
    serve.run(chosen.bind(), route_prefix="/predict")
    while True:
        time.sleep(60)
