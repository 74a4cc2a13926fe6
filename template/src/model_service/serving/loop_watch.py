"""The last resort for a process that answers nobody any more: it ends, and is started again.

A call that the event loop expected to be quick may never return, such as a `features()` that hangs
on one value. Nothing in the process can take the loop away from it. Whoever runs the process can:
workers are replaced by their parent, containers by what restarts them.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback

from model_service.serving.logs import LogWriter, notice_line

STUCK = 70
"""The exit code."""
SECONDS_BETWEEN_LOOKS = 1.0
DEBUGGERS = {"pdb", "debugpy", "pydevd"}


class LoopWatch:
    """Ends the process when its event loop has not turned for `seconds`, and says where it hangs.

    Looks are counted, not the time that passes: a process that was asleep itself is not ended. Nor
    is one with a debugger in it, where somebody may be stepping through.
    """

    def __init__(self, log: LogWriter, seconds: float) -> None:
        self._log = log
        self._most_looks = max(2, round(seconds / SECONDS_BETWEEN_LOOKS))
        self._turns = 0
        self._watched = threading.get_ident()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin, in the thread of the running event loop."""
        self._watched = threading.get_ident()
        self._turn(asyncio.get_running_loop())
        threading.Thread(target=self._watch, name="loop watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turns += 1
        if not self._stopping.is_set():
            loop.call_later(SECONDS_BETWEEN_LOOKS / 2, self._turn, loop)

    def _watch(self) -> None:
        seen, looks = self._turns, 0
        while not self._stopping.wait(SECONDS_BETWEEN_LOOKS):
            looks = looks + 1 if self._turns == seen else 0
            seen = self._turns
            if looks >= self._most_looks and not DEBUGGERS & sys.modules.keys():
                self._end()

    def _end(self) -> None:
        frame = sys._current_frames().get(self._watched)
        places = "".join(traceback.format_stack(frame)) if frame else ""
        told = notice_line(
            "ERROR", "the event loop is stuck: the process ends, to be started again"
        )
        told.stack = places
        self._log.append(told)
        self._log.stop()
        os._exit(STUCK)
