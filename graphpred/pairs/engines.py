"""Where searches run: processes of this machine, a Dask cluster, or Ray, all through joblib.

An engine only carries tasks to workers of one thread each. What a task does, and so what is stored,
never depends on it. Joblib has a backend for each; what is added here starts and stops the workers,
keeps them quiet, and turns what can go wrong with them into one clear error.
"""

import asyncio
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import joblib

from graphpred.errors import EngineError, InputError
from graphpred.pairs.process_backend import ProcessBackend

_CONNECT_SECONDS = 8.0  # a scheduler that does not answer for so long is not there
_POLL_SECONDS = 0.5
_DASK = {
    "distributed.admin.large-graph-warning-threshold": "1TB",  # a task carries its rows
    # Dask's own setting also has MALLOC_TRIM_THRESHOLD_, which makes training take half as long
    # again: memory goes back to the system and is fetched anew at every step.
    "distributed.nanny.pre-spawn-environ": {
        "OMP_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
    },
    "distributed.worker.profile.enabled": False,
}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Workers that are ready.

    Attributes:
        parallel: Gives a ``joblib.Parallel`` on these workers, whose results come as they are
            ready; a new one after workers were lost.
        lost: What is raised when a worker died with its task, and a new ``parallel`` may go on.
    """

    parallel: Callable[[], joblib.Parallel]
    lost: tuple[type[BaseException], ...] = ()

    def run(self, calls: Iterable[Any]) -> Generator[Any, None, None]:
        """Results of ``joblib.delayed`` calls as they come; stop the workers whatever ends this."""
        with interrupts_ignored():
            results = self.parallel()(calls)
        try:
            for result in results:  # noqa: UP028 - "yield from" would close the results by itself
                yield result
        finally:
            with warnings.catch_warnings():  # joblib warns that what is stopped is not finished
                warnings.simplefilter("ignore", UserWarning)
                results.close()


@contextmanager
def start_engine(name: str, *, jobs: int, address: str | None = None) -> Iterator[Engine]:
    """Start workers, or reach those of a scheduler, and stop what was started at the end.

    Args:
        name: A key of ``ENGINES``.
        jobs: Workers to start; those of a running scheduler are taken as they are.
        address: Of a running Dask scheduler or Ray cluster.

    Yields:
        The engine.

    Raises:
        InputError: If there is no such engine, or it has no address.
        EngineError: If its package is not installed, its scheduler cannot be reached or goes away,
            or its workers die again and again.
    """
    check_engine(name, address=address)
    try:
        with ENGINES[name](jobs, address) as engine:
            yield engine
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] not in ("dask", "distributed", "ray"):
            raise
        raise EngineError(
            f"engine {name!r} needs a package that is not installed, {error.name}: "
            f"pip install 'graphpred[{name}]'."
        ) from error


def check_engine(name: str, *, address: str | None = None) -> None:
    """An ``InputError`` if there is no such engine or it has no address."""
    if name not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}; got {name!r}.")
    if name == "joblib" and address is not None:
        raise InputError(
            "an address is of a running Dask scheduler or Ray cluster; engine 'joblib' has none, "
            f"got {address!r}."
        )


def _parallel(**settings: Any) -> joblib.Parallel:
    """One task a message, small enough to be pickled as it is; results as they come."""
    return joblib.Parallel(
        return_as="generator_unordered", batch_size=1, max_nbytes=None, **settings
    )


@contextmanager
def _joblib_engine(jobs: int, address: str | None) -> Iterator[Engine]:
    """Processes of this machine; for one job this process itself."""
    del address

    def parallel() -> joblib.Parallel:
        backend = ProcessBackend(
            inner_max_num_threads=1, initializer=_obey, initargs=(os.getpid(),)
        )
        return _parallel(backend=backend, n_jobs=jobs)

    yield Engine(parallel=parallel, lost=(BrokenProcessPool,))


def _obey(parent: int) -> None:
    """Let this process, a worker, leave Ctrl-C to its parent and end with it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Let processes that begin inside the block ignore Ctrl-C from their first moment."""
    if threading.current_thread() is not threading.main_thread():  # cannot, and gets no Ctrl-C
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _dask_engine(jobs: int, address: str | None) -> Iterator[Engine]:
    """The workers of a scheduler, or of a cluster on this machine."""
    import dask  # noqa: PLC0415 - an extra
    import distributed  # noqa: PLC0415

    from graphpred.pairs.dask_backend import DaskBackend  # noqa: PLC0415

    gone = (distributed.scheduler.KilledWorker, ConnectionError, TimeoutError)
    where = f"the Dask scheduler at {address}" if address else "the local Dask cluster"
    with _quiet("distributed", "tornado", "asyncio"), dask.config.set(_DASK), ExitStack() as stack:
        try:
            if address is None:
                target = stack.enter_context(_local_cluster(jobs))
            else:
                _reach(address)
                target = address
            client = distributed.Client(target, timeout=_CONNECT_SECONDS, set_as_default=False)
            stack.callback(client.close, timeout=_CONNECT_SECONDS)
            yield Engine(parallel=lambda: _parallel(backend=DaskBackend(client=client)))
        except gone as error:
            raise EngineError(f"{where} failed: {_first_line(error)}") from error


_WORKER_START = """\
import signal
from distributed import Client

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is ours
Client.__del__ = lambda self: None  # at the end of a worker it finds no event loop, and complains
"""


def _local_cluster(jobs: int) -> Any:
    """A scheduler in this process and workers in their own, restarted when they die."""
    from distributed import LocalCluster  # noqa: PLC0415 - an extra

    return LocalCluster(
        n_workers=jobs,
        threads_per_worker=1,
        processes=True,
        memory_limit=None,
        dashboard_address=None,
        scheduler_kwargs={
            "dashboard_address": ":0"
        },  # its port: of several runs, each takes its own
        silence_logs=logging.CRITICAL + 1,
        preload=[_WORKER_START],
    )


def _reach(address: str) -> None:
    """Connect to a scheduler once: a ``Client`` that cannot would try for much longer."""
    from distributed.comm import connect  # noqa: PLC0415 - an extra

    async def probe() -> None:
        comm = await asyncio.wait_for(connect(address, timeout=_CONNECT_SECONDS), _CONNECT_SECONDS)
        await comm.close()

    try:
        with ThreadPoolExecutor(1) as thread:  # this one may have a loop already
            thread.submit(asyncio.run, probe()).result()
    except (OSError, ValueError) as error:
        reason = _first_line(error) or f"no answer for {_CONNECT_SECONDS:g} s."
        raise EngineError(
            f"a Dask scheduler must be running at {address}, as in tcp://HOST:8786: {reason}"
        ) from error


@contextmanager
def _ray_engine(jobs: int, address: str | None) -> Iterator[Engine]:
    """The workers of a Ray cluster, or of one on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # noqa: PLC0415 - an extra
    from ray.util.joblib.ray_backend import RayBackend  # noqa: PLC0415

    class Backend(RayBackend):  # type: ignore[misc]
        supports_return_generator = True  # Ray's pool calls back as the other backends do

    started = not ray.is_initialized()
    try:
        if started:
            where = {"address": address} if address else {"num_cpus": jobs, "address": "local"}
            ray.init(
                **where,
                include_dashboard=None if address else False,
                logging_level=logging.CRITICAL + 1,
                log_to_driver=False,
            )
        yield Engine(
            parallel=lambda: _parallel(backend=Backend(), n_jobs=jobs),
            lost=(ray.exceptions.RayActorError,),
        )
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise EngineError(f"Ray failed: {_first_line(error)}") from error
    finally:
        if started:
            ray.shutdown()


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Let nothing be logged by these packages: what matters to a user is raised."""
    found = [
        logging.getLogger(name)
        for name in {*names, *logging.root.manager.loggerDict}
        if name.split(".")[0] in names
    ]
    before = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(found, before, strict=True):
            logger.setLevel(level)


ENGINES: dict[str, Callable[[int, str | None], AbstractContextManager[Engine]]] = {
    "joblib": _joblib_engine,
    "dask": _dask_engine,
    "ray": _ray_engine,
}
"""Every engine by name: starts as many workers, or takes those at an address."""
