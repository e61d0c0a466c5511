"""Joblib's Dask backend, with an end to what it would wait for for ever.

The backend of joblib does not report a task that failed with its worker, nor notice that the
scheduler has gone. Importing this module needs the extra ``dask``.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

from joblib._dask import DaskDistributedBackend

_CHECK_SECONDS = 1.0
_ANSWER_SECONDS = 60.0  # a scheduler on a busy machine reads its first task, and imports, for long
_WORKERLESS_SECONDS = 60.0
_GONE = "the scheduler went away."


class DaskBackend(DaskDistributedBackend):  # type: ignore[misc]
    """Carries tasks to Dask workers; a ``ConnectionError`` if they or their scheduler are gone."""

    def effective_n_jobs(self, n_jobs: int) -> int:
        """At least 2: joblib would do the work of one worker in this process."""
        return max(2, int(super().effective_n_jobs(n_jobs)))

    def start_call(self) -> None:
        """Begin to watch the scheduler as well."""
        super().start_call()
        self.client.loop.add_callback(self._watch)

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        """Call back for a task that failed too."""
        future = super().submit(func, callback)

        def report(done: concurrent.futures.Future[Any]) -> None:
            if callback is not None and done.exception() is not None:
                callback(done.exception())

        future.add_done_callback(report)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        """What a task returned; raise what kept it from that."""
        if isinstance(out, concurrent.futures.CancelledError):  # not by us
            raise ConnectionError(_GONE) from out
        if isinstance(out, BaseException):
            raise out
        return super().retrieve_result_callback(out)

    async def _watch(self) -> None:
        """Fail all tasks when the scheduler does not answer or has been without workers."""
        without = 0.0
        while self._continue:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                cores = await asyncio.wait_for(self.client.scheduler.ncores(), _ANSWER_SECONDS)
            except Exception:  # whatever it is, the scheduler does not answer
                self._fail(_GONE)
                return
            without = 0.0 if cores else without + _CHECK_SECONDS
            if without > _WORKERLESS_SECONDS:
                self._fail(f"the scheduler had no workers for {_WORKERLESS_SECONDS:g} s.")
                return

    def _fail(self, reason: str) -> None:
        for future in list(self._results.values()):
            if not future.done():
                future.set_exception(ConnectionError(reason))
