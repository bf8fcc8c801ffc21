"""Workers on a Ray cluster: `--engine ray [--address ...]`, the extra `xbench[ray]`."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xbench.errors import RunError
from xbench.optional import optional
from xbench.running.chunks import ChunkRunner, Task
from xbench.running.folder import identity_of
from xbench.running.manifest import build
from xbench.running.maps import MapCache
from xbench.running.processes import Make
from xbench.running.workers import LostError, Message, Shipped

ray = optional("ray")


class _Actor:
    """A Ray actor: the model is loaded once, in a process of its own, on some machine."""

    def __init__(self, make: Make, device: str) -> None:
        self._grid = make(device)
        self._folder = tempfile.TemporaryDirectory(prefix="xbench-")
        self._made: list[Path] = []
        cache = MapCache(Path(self._folder.name), written=self._made.append)
        self._runner = ChunkRunner(self._grid, cache)

    def about(self) -> tuple[str, str, int]:
        """Identity of the run that it would do, its host, its process id."""
        return identity_of(build(self._grid, [])), socket.gethostname(), os.getpid()

    def results(self, task: Task) -> Iterator[Message]:
        """Finished units, each with the files that were made for it."""
        for finished in self._runner.results(task):
            yield from self._ship()
            yield finished
        yield from self._ship()

    def _ship(self) -> Iterator[Shipped]:
        while self._made:
            path = self._made.pop(0)
            yield Shipped(path.name, path.read_bytes())


class RayWorker:
    """One actor; a new one takes its place when it is lost.

    Args:
        number: which worker, for messages.
        make: makes the grid on a device.
        device: as the actor sees it.
        gpus: how many it asks Ray for.
        identity: of the run; an actor that loads anything else is refused.
    """

    def __init__(self, number: int, make: Make, device: str, gpus: int, identity: str) -> None:
        self.name = f"Ray worker {number}"
        self._make, self._device, self._gpus = make, device, gpus
        self._identity = identity
        self._actor: Any = None
        self.pid: int | None = None

    def results(self, task: Task) -> Iterator[Message]:
        """See `Worker.results`."""
        try:
            if self._actor is None:
                self.start()
            stream = self._actor.results.options(num_returns="streaming").remote(task)
            for reference in stream:
                yield ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise RunError(f"The {self.name} cannot go on: {_last(error)}") from None
        except ray.exceptions.RayError as error:
            self._actor = None
            raise LostError(f"The {self.name} was lost ({type(error).__name__}).") from None

    def close(self) -> None:
        """See `Worker.close`."""
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None

    def start(self) -> None:
        """Make the actor and wait until it has loaded the model.

        Raises:
            RunError: it does not start, or loads another run than this process.
        """
        remote = ray.remote(num_cpus=1, num_gpus=self._gpus, max_restarts=0)(_Actor)
        self._actor = remote.remote(self._make, self._device)
        try:
            found, host, self.pid = ray.get(self._actor.about.remote())
        except ray.exceptions.RayError as error:
            raise RunError(f"The {self.name} does not start: {_last(error)}") from None
        if found != self._identity:
            raise RunError(
                f"The {self.name} on {host} loads another model, data or protocol than this "
                "process; install the same xbench there and make the same files visible."
            )


def ray_workers(
    make: Make, device: str, identity: str, *, address: str | None, count: int | None
) -> list[RayWorker]:
    """Workers on a cluster, or on this machine where no address is given.

    Args:
        make: makes the grid on a device.
        device: `auto` takes GPUs where the cluster has some.
        identity: of the run.
        address: of the cluster, `auto` for the one this machine belongs to.
        count: how many, None for one a GPU, or one a core.

    Raises:
        RunError: Ray is not installed, or the cluster cannot be reached or has no room.
    """
    if ray.reason is not None:
        raise RunError(f"--engine ray needs Ray: pip install 'xbench[ray]' ({ray.reason}).")
    try:
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, include_dashboard=False)
        resources = ray.cluster_resources()
    except Exception as error:  # Ray raises what its parts raise
        where = address or "on this machine"
        raise RunError(f"The Ray cluster {where} cannot be reached ({_last(error)}).") from error
    gpus = int(resources.get("GPU", 0)) if device != "cpu" else 0
    room = gpus or int(resources.get("CPU", 0))
    if count is not None and count > room:
        raise RunError(
            f"The Ray cluster has room for {room} workers, not {count}; ask for fewer with "
            "--workers."
        )
    place = "cuda" if gpus else "cpu"
    return [
        RayWorker(number, make, place, 1 if gpus else 0, identity)
        for number in range(count or max(1, room))
    ]


def _last(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
