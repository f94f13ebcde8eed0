"""The devices that networks run on: their names, their part of the numerics key, and turns on them."""

from __future__ import annotations

import functools
import os
import platform as machine
import queue
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xglof.errors import ModelError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

#: Blocks that may lie on a GPU at once: one computes while the other is copied.
_BLOCKS_A_GPU = 2
_MAKING = threading.Lock()


def resolve(device: str) -> str:
    """``"cpu"`` or ``"cuda:N"`` for what a user may write.

    Raises
    ------
    ModelError
        If the device is unknown or not there.
    """
    import torch

    if not isinstance(device, str):
        raise ModelError(f"device is {device!r}; give 'auto', 'cpu', 'cuda' or 'cuda:N'")
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if available else "cpu"
    if device == "cpu":
        return device
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ModelError(f"device is {device!r}; give 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if int(number or 0) >= available:
        raise ModelError(f"device {device!r} is not there: {available} CUDA devices are; use device='cpu'")
    return f"cuda:{int(number or 0)}"


@functools.cache
def platform(device: str) -> str:
    """Model of a device, builds of torch and SciPy: what decides, beside the job, about the last bits."""
    import torch

    if device == "cpu":
        model = f"{_cpu_model()}, {torch.backends.cpu.get_cpu_capability()}"
    else:
        model = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{model}; torch {torch.__version__}; scipy {version('scipy')}"


def _cpu_model() -> str:
    """Name and model number of the processor: its kernels are chosen by maker, instructions and caches."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return machine.processor() or machine.machine()
    text = info.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    pairs = (line.partition(":") for line in text.splitlines())
    told = {name.strip(): value.strip() for name, _, value in pairs}
    number = ".".join(told[name] for name in ("cpu family", "model", "stepping") if name in told)
    return f"{told.get('model name', machine.machine())} {number}".strip()


def where_it_runs(device: str) -> tuple[tuple[str, str], int]:
    """The resolved device and its platform, and how many batches run there at once.

    Where a Dask client is active its workers are asked, who may have other machines than this one.

    Raises
    ------
    ModelError
        If the device is not there, or workers differ: a map must not mix results of two numerics keys.
    """
    answers = _ask_workers(device) or [_here(device)]
    kinds = Counter(place for place, _ in answers)
    if len(kinds) > 1:
        text = "; ".join(f"{number} with {place[1]} on {place[0]}" for place, number in kinds.items())
        raise ModelError(
            f"the workers of the cluster give results that differ in the last bits: {text}. Use workers of "
            "one kind, or name a device that all have"
        )
    return answers[0][0], max(batches for _, batches in answers)


def _ask_workers(device: str) -> list[tuple[tuple[str, str], int]]:
    """What each worker of the active client says; empty without a client, or without workers yet."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return []
    try:
        client = distributed.default_client()
    except ValueError:
        return []
    return [] if client.asynchronous else list(client.run(_here, device).values())


def _here(device: str, dask_worker: Any = None) -> tuple[tuple[str, str], int]:
    """The device by its own name, its platform, and batches at once; ``dask_worker`` is given by Dask."""
    resolved = resolve(device)
    on_cores = resolved == "cpu" and dask_worker is not None
    batches = dask_worker.state.nthreads if on_cores else side_by_side(resolved)
    return (resolved, platform(resolved)), int(batches)


@contextmanager
def full_precision() -> Iterator[None]:
    """Products of float32 in float32, and kernels not chosen by timing, while any block computes.

    Whatever the process has set: ``import terratorch`` (1.2.11), for one, lowers the precision for all.
    """
    global _computing  # as torch's settings are the process's
    with _MAKING:
        if _computing == 0:
            _set_aside[:] = [(holder, name, getattr(holder, name)) for holder, name, _ in _arithmetic()]
            for holder, name, wanted in _arithmetic():
                setattr(holder, name, wanted)
        _computing += 1
    try:
        yield
    finally:
        with _MAKING:
            _computing -= 1
            if _computing == 0:
                for holder, name, before in _set_aside:
                    setattr(holder, name, before)


_computing = 0
_set_aside: list[tuple[Any, str, object]] = []


def _arithmetic() -> list[tuple[Any, str, object]]:
    """Torch's settings that decide about last bits: where they are, and what they should be."""
    import torch

    backends: Any = torch.backends
    found: list[tuple[Any, str, object]] = [(backends.cudnn, "benchmark", False)]
    if hasattr(backends.mkldnn, "matmul"):  # torch 2.9 on: a setting a backend, in place of two for all
        products = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
        return [*found, *((holder, "fp32_precision", "ieee") for holder in products)]
    return [*found, (backends.cudnn, "allow_tf32", False), (_OldPrecision(), "products", "highest")]


class _OldPrecision:
    """``torch.set_float32_matmul_precision`` as an attribute."""

    @property
    def products(self) -> str:
        """``"highest"`` where products of float32 are float32."""
        import torch

        return torch.get_float32_matmul_precision()

    @products.setter
    def products(self, value: str) -> None:
        import torch

        torch.set_float32_matmul_precision(value)


@contextmanager
def place_for_a_block(device: str, *, alone: bool = False) -> Iterator[None]:
    """Room for one more block on a device: a stream of its own on a GPU, one thread on a CPU.

    What is copied on one stream overlaps what is computed on another; a block's work is done when it leaves.
    On a CPU the cores belong to the forward passes, and small operations in parallel would wait for them.

    Parameters
    ----------
    device
        By its resolved name.
    alone
        Wait until no other block of this process lies on the GPU.
    """
    if device == "cpu":
        with _one_thread():
            yield
        return
    import torch

    free = _streams(device)
    with _WAITING_ALONE if alone else nullcontext():  # two that each hold a place would wait for ever
        streams = [free.get() for _ in range(_BLOCKS_A_GPU if alone else 1)]
    try:
        with torch.cuda.stream(streams[0]):
            yield
            streams[0].synchronize()
    finally:
        for stream in streams:
            free.put(stream)


def gpu_turn(device: str) -> AbstractContextManager[object]:
    """A turn at computing: one block at a time on a GPU, whatever the scheduler; any number on a CPU."""
    return nullcontext() if device == "cpu" else _gpu_lock(device)


def in_order(device: str, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
    """``function`` of every task, in order: one after another on a GPU, one a core on a CPU.

    On a CPU no more results wait than twice the cores.
    """
    if device != "cpu":
        yield from map(function, tasks)
        return
    with _MAKING:
        pool, cores = _one_thread_pool(os.getpid())
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) >= 2 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def side_by_side(device: str) -> int:
    """Batches that run at the same time here: as many as a Dask worker has threads, or cores; 1 on a GPU."""
    if device != "cpu":
        return 1
    distributed = sys.modules.get("distributed")
    if distributed is not None:
        try:
            return int(distributed.get_worker().state.nthreads)
        except ValueError:  # not in a worker
            pass
    from dask.system import CPU_COUNT  # of this process: its affinity and its container's share

    return int(CPU_COUNT)


@functools.cache
def _one_thread_pool(process: int) -> tuple[ThreadPoolExecutor, int]:
    """Threads that each run torch on one core, one pool a process (a forked child makes its own).

    The number of threads inside an operation changes its bits; the number of operations side by side does
    not. So every batch on a CPU runs on one thread, and as many batches run as there are cores.
    """
    cores = side_by_side("cpu")
    return ThreadPoolExecutor(cores, "xglof-forward", initializer=_set_own_threads, initargs=(1,)), cores


@contextmanager
def _one_thread() -> Iterator[None]:
    """Make torch's operations in this thread use one core, for a while."""
    import torch

    before = torch.get_num_threads()
    _set_own_threads(1)
    try:
        yield
    finally:
        _set_own_threads(before)


def _set_own_threads(number: int) -> None:
    """Set how many threads torch's operations have in this thread, and in no other."""
    import torch

    # set_num_threads sets this thread's number and the one that new threads begin with: a new thread tells
    # the latter, and another sets it back. Once asked for its number, a thread does not take it again later.
    with _MAKING, ThreadPoolExecutor(1) as asked, ThreadPoolExecutor(1) as restoring:
        torch.get_num_threads()
        default = asked.submit(torch.get_num_threads).result()
        torch.set_num_threads(number)
        restoring.submit(torch.set_num_threads, default).result()


_LOCKS: dict[str, threading.Lock] = {}
_WAITING_ALONE = threading.Lock()
_STREAMS: dict[str, queue.SimpleQueue[torch.cuda.Stream]] = {}


def _gpu_lock(device: str) -> threading.Lock:
    with _MAKING:
        return _LOCKS.setdefault(device, threading.Lock())


def _streams(device: str) -> queue.SimpleQueue[Any]:
    import torch

    with _MAKING:
        if device not in _STREAMS:
            _STREAMS[device] = queue.SimpleQueue()
            for _ in range(_BLOCKS_A_GPU):
                _STREAMS[device].put(torch.cuda.Stream(device))
        return _STREAMS[device]
