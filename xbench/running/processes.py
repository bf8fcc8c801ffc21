"""Workers as processes of this machine, one a device: `--devices cuda:0,cuda:1`."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from xbench.errors import ParameterError, RunError, XbenchError
from xbench.running.chunks import ChunkRunner, Task
from xbench.running.folder import identity_of
from xbench.running.grid import Grid
from xbench.running.manifest import build
from xbench.running.maps import MapCache
from xbench.running.workers import LostError, Message

Make = Callable[[str], Grid]
"""Makes the grid of the run on a device; sent to workers, so it can be pickled."""


class ProcessWorker:
    """A fresh Python that loads the model once and works on chunks of this run.

    It talks through an anonymous pipe to its parent, and ends with it.

    Args:
        make: makes the grid on a device.
        device: for example cuda:1.
        maps: folder of the maps, which it writes itself.
        identity: of the run; a worker that loads anything else is refused.
        threads: for the CPU, None as torch decides.

    Attributes:
        begun: whether it was ever ready for chunks.
    """

    def __init__(
        self, make: Make, device: str, maps: Path, identity: str, threads: int | None = None
    ) -> None:
        self.name = device
        self.begun = False
        self._arguments = (make, device, maps, threads)
        self._identity = identity
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, None before it was started."""
        return None if self._process is None else self._process.pid

    def results(self, task: Task) -> Iterator[Message]:
        """See `Worker.results`."""
        if self._process is None or not self._process.is_alive():
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send(task)
            while (message := self._pipe.recv()) is not None:
                if isinstance(message, str):
                    raise RunError(f"The worker on {self.name} cannot go on: {message}")
                yield message
        except (EOFError, OSError):
            raise LostError(self._how_it_ended()) from None

    def close(self) -> None:
        """See `Worker.close`."""
        if self._process is not None:
            self._process.kill()
            self._process.join(5)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        try:
            found = self._pipe.recv()
        except (EOFError, OSError):
            raise RunError(f"{self._how_it_ended()} It died before its first chunk.") from None
        if found != self._identity:
            raise RunError(
                found
                if " " in found
                else f"The worker on {self.name} loads another model, data or protocol than this "
                "process; something changed on disk since the start."
            )
        self.begun = True

    def _how_it_ended(self) -> str:
        assert self._process is not None
        self._process.join(5)
        code = self._process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        return f"The worker on {self.name} ended {how}."


def process_workers(make: Make, devices: str, maps: Path, identity: str) -> list[ProcessWorker]:
    """A worker for every device of a comma-separated list.

    Raises:
        ParameterError: an empty name.
    """
    names = [name.strip() for name in devices.split(",")]
    if not all(names):
        raise ParameterError(
            f"--devices takes names with commas between, like cuda:0,cuda:1, not '{devices}'."
        )
    on_cpu = sum(name == "cpu" for name in names)
    shared = (
        None
        if "OMP_NUM_THREADS" in os.environ
        else max(1, torch.get_num_threads() // max(1, on_cpu))
    )
    return [
        ProcessWorker(make, name, maps, identity, shared if name == "cpu" else None)
        for name in names
    ]


def _serve(pipe: Connection, make: Make, device: str, maps: Path, threads: int | None) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        grid = make(device)
        runner = ChunkRunner(grid, MapCache(maps))
        pipe.send(identity_of(build(grid, [])))
        while True:
            for finished in runner.results(pipe.recv()):
                pipe.send(finished)
            pipe.send(None)
    except (EOFError, BrokenPipeError):
        return  # the parent is gone
    except XbenchError as error:
        pipe.send(str(error))
    except Exception:
        pipe.send(traceback.format_exc().strip().splitlines()[-1])
