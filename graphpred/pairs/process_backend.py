"""Joblib's backend of processes, with a clean end when it is stopped in the middle.

Loky, which is below it, forgets all tasks when its workers are killed, but not the numbers of those
that it has not sent yet: its thread then fails on the first of them, with a traceback, and leaves
the workers and their semaphores behind.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib._parallel_backends import LokyBackend

_POLL_SECONDS = 0.002
_SENT_SECONDS = 10.0  # sending needs no worker; longer takes only a thread that is dead


class ProcessBackend(LokyBackend):  # type: ignore[misc]
    """Carries tasks to processes of this machine, and sends what it was given before it stops."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._lock = threading.Lock()
        self._stopped = False
        self._last: Future[Any] | None = None  # tasks are sent in the order in which they came

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        """Take a task; after the end one that is never done, which nobody waits for."""
        with self._lock:
            if self._stopped:
                return Future()
            self._last = future = self._workers.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Kill the workers, as soon as no task is on its way to them."""
        with self._lock:
            self._stopped = True
        deadline = time.monotonic() + _SENT_SECONDS
        while not self._is_sent() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        super().abort_everything(ensure_ready=ensure_ready)
        self._stopped = not ensure_ready

    def _is_sent(self) -> bool:
        return self._last is None or self._last.running() or self._last.done()
