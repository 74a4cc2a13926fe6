"""The two phases of stopping: first callers are sent elsewhere, then the door is closed."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from model_service.settings import Settings

Handler = Callable[[int, FrameType | None], object]


class Drained(Protocol):
    """What says "not ready" while it goes on answering."""

    settings: Settings
    is_draining: bool


def drain_before_stopping(app: Drained) -> None:
    """Put a first phase before what SIGTERM and SIGINT do now, in a process that has an event loop.

    From the signal on, `/readyz` answers 503. After SIGTERM the service accepts and answers
    requests for `server.drain_seconds` more: orchestrators go on sending them until they have seen
    that it is not ready. A second signal, or Ctrl-C, does not wait; but a worker may hear of one
    SIGTERM twice, from who told the whole group of processes and from the process that started it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        stop = signal.getsignal(number)
        if callable(stop):
            signal.signal(number, _draining(app, stop, asyncio.get_running_loop()))


def _draining(app: Drained, stop: Handler, loop: asyncio.AbstractEventLoop) -> Handler:
    def handle(number: int, frame: FrameType | None) -> None:
        is_worker = multiprocessing.parent_process() is not None
        if number == signal.SIGTERM and app.is_draining and is_worker:
            return
        seconds = app.settings.server.drain_seconds
        waits = number == signal.SIGTERM and seconds and not app.is_draining
        app.is_draining = True
        if waits:
            loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, None)
        else:
            stop(number, frame)

    return handle
