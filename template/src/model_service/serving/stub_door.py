"""What tells a stub from the real service: a header on each answer, and a record of who asked."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Container

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_service.serving.stub_callers import StubCallers

MARK = (b"x-stub", b"true")
SECONDS_BETWEEN_WRITES = 0.5
_PREDICTS = re.compile(r"/v[12]/models/([^/]+)/(?:versions/[^/]+/)?(?:predict|infer)\Z")
_log = logging.getLogger(__name__)


class StubDoor:
    """Stands before the service, whose answers it leaves as they are.

    `models` are the names of the models, so that the record holds no name that a caller made up.
    """

    def __init__(
        self, service: ASGIApp, callers: StubCallers, models: Callable[[], Container[str]]
    ) -> None:
        self._service = service
        self._callers = callers
        self._models = models
        self._writing: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the service answer one request."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message)
                message = {**message, "headers": [*message.get("headers", ()), MARK]}
            await send(message)

        await self._service(scope, receive, marked)

    def close(self) -> None:
        """Write what was counted last."""
        if self._writing is not None:
            self._writing.cancel()
        self._write()

    def _count(self, scope: Scope, answer: Message) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        asked = _PREDICTS.match(path)
        if asked is None or asked[1] not in self._models():
            return
        name = dict(scope["headers"]).get(b"x-service-name", b"").decode("latin-1")
        request_id = dict(answer.get("headers", ())).get(b"x-request-id", b"").decode("latin-1")
        self._callers.count(name, asked[1], answer["status"], request_id)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        await asyncio.sleep(SECONDS_BETWEEN_WRITES)
        await asyncio.to_thread(self._write)

    def _write(self) -> None:
        try:
            self._callers.write()
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("who called the stub is not recorded: %s", error)
