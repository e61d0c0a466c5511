"""Several processes that train one meta-model together, through ``torch.distributed``.

Every process holds the whole model and draws the same examples; each computes the gradients of its
share of them, and all take the step that the sum of these leads to. The first process, of rank 0,
is the one that reports and writes. Others are started here, on this machine, or by ``torchrun`` on
any number of machines, and then found through the environment variables that it sets.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from graphpred.errors import EngineError, GraphPredError, InputError

T = TypeVar("T")
_HOST = "127.0.0.1"
_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_POLL_SECONDS = 0.05
_END_SECONDS = 5.0  # in which another process, which has nothing left to do, should have ended


@dataclass(frozen=True, kw_only=True)
class Team:
    """The processes of a training, seen from one of them; by default there are no others.

    Whatever the others are needed for must be asked for in all of them, in the same order.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that reports and writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """What this process has to do of what all have: neighbours, the last process the most."""
        first, last = (rank * len(items) // self.size for rank in (self.rank, self.rank + 1))
        return items[first:last]

    def add(self, values: Tensor) -> None:
        """Replace values by their sum over all processes.

        Raises:
            EngineError: If a process was lost.
        """
        if self.size == 1:
            return
        try:
            distributed.all_reduce(values)
        except RuntimeError as error:
            raise EngineError(
                "a process of the training was lost; what was done is in the checkpoint, resume "
                "the training to go on."
            ) from error

    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace gradients by their sums; a parameter without one anywhere keeps none."""
        if self.size == 1:
            return
        absent = [parameter.grad is None for parameter in parameters]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        known = grads[0].new_tensor([float(not one) for one in absent])
        flat = torch.cat([known, *(gradient.flatten() for gradient in grads)])
        self.add(flat)
        known, *sums = flat.split([len(grads), *(gradient.numel() for gradient in grads)])
        for parameter, total, is_known in zip(parameters, sums, known.tolist(), strict=True):
            parameter.grad = total.view_as(parameter) if is_known else None

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process."""
        flags = torch.tensor(int(flag))
        self.add(flags)
        return bool(flags)

    def agreed(self, number: int) -> int:
        """The number that the first process has."""
        numbers = torch.tensor(number if self.is_first else 0)
        self.add(numbers)
        return int(numbers)


ALONE = Team()
"""One process."""


def is_first_process() -> bool:
    """Whether this process is not one that ``torchrun`` started beside the first."""
    return not _from_outside() or os.environ["RANK"] == "0"


@contextmanager
def start_team(
    processes: int | None, *, work: Callable[..., None], arguments: tuple[Any, ...] = ()
) -> Iterator[Team]:
    """Start processes, or join those that ``torchrun`` started; end them when the block ends.

    Args:
        processes: How many, with this one, which is the first; None for those of ``torchrun``,
            or this one alone.
        work: What each of the others does, called with its team and the arguments. It must be a
            function of a module, and the arguments plain.
        arguments: See ``work``.

    Yields:
        The team of this process.

    Raises:
        InputError: If the number of processes is not positive, or not that of ``torchrun``.
        EngineError: If the processes do not come together.
    """
    if processes is not None and processes < 1:
        raise InputError(f"processes must be at least 1; got {processes}.")
    if _from_outside():
        with _joined() as team:
            if processes not in (None, team.size):
                raise InputError(f"processes must be the {team.size} of torchrun; got {processes}.")
            yield team
    elif processes is None or processes == 1:
        yield ALONE
    else:
        with _started(processes, work=work, arguments=arguments) as team:
            yield team


def _from_outside() -> bool:
    return all(name in os.environ for name in _ENVIRONMENT)


@contextmanager
def _joined(**place: Any) -> Iterator[Team]:
    """Be one of the processes; ``place`` is where they meet, by default what torchrun says."""
    try:
        distributed.init_process_group("gloo", **place)
    except (RuntimeError, ValueError) as error:
        raise EngineError(
            f"the processes of the training must meet; they do not: {error}."
        ) from error
    try:
        yield Team(rank=distributed.get_rank(), size=distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


@contextmanager
def _started(size: int, *, work: Callable[..., None], arguments: tuple[Any, ...]) -> Iterator[Team]:
    """Processes of this machine, which share its threads and end with this one."""
    threads = torch.get_num_threads()
    store = _store(0, is_master=True)
    each = max(1, threads // size)
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(
            target=_member, args=(rank, size, store.port, each, work, arguments), daemon=True
        )
        for rank in range(1, size)
    ]
    try:
        for process in others:
            process.start()
        _wait_for(others, store=store)
        torch.set_num_threads(each)
        with _joined(store=store, rank=0, world_size=size) as team:
            yield team
        for process in others:
            process.join(_END_SECONDS)
    finally:
        torch.set_num_threads(threads)
        for process in others:
            if process.is_alive():
                process.terminate()
                process.join()


def _wait_for(others: Sequence[BaseProcess], *, store: Any) -> None:
    """Wait until all are there; an ``EngineError`` if one ends instead."""
    names = [_name(rank) for rank in range(1, len(others) + 1)]
    while not store.check(names):
        if not all(process.is_alive() for process in others):
            raise EngineError("a process of the training could not be started; it ended at once.")
        time.sleep(_POLL_SECONDS)


def _member(
    rank: int,
    size: int,
    port: int,
    threads: int,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """The life of a process that was started; it is the first one's part to say what is wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first one decides when to stop
    torch.set_num_threads(threads)
    store = _store(port, is_master=False)
    store.set(_name(rank), "here")
    try:
        with _joined(store=store, rank=rank, world_size=size) as team:
            work(team, *arguments)
    except GraphPredError:
        sys.exit(1)


def _store(port: int, *, is_master: bool) -> Any:
    """Where the processes of this machine meet; port 0 is any that is free."""
    return distributed.TCPStore(  # type: ignore[attr-defined]
        _HOST, port, is_master=is_master, wait_for_workers=False
    )


def _name(rank: int) -> str:
    return f"graphpred/{rank}"
