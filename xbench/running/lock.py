"""One process a run folder: the second is refused with a sentence, a dead one never blocks."""

import errno
import importlib
import json
import os
import socket
from pathlib import Path
from types import ModuleType, TracebackType

from xbench.errors import RunError

NAME = ".lock"

fcntl: ModuleType | None
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows: the process id in the file decides
    fcntl = None

_HELD: set[Path] = set()  # a process may take its own record lock twice, so it is asked first


class RunLock:
    """Holds a run folder while a process writes to it.

    The operating system keeps the lock (a POSIX record lock, which works over NFS too) and drops it
    with the process, however that ends; the file only says who it is. Where a file system has no
    locks, the process id and the host in the file decide, and a process that is gone is stale.

    Args:
        folder: the run folder, which is there.

    Raises:
        RunError: on entering, somebody else holds it, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder.resolve() / NAME
        self._folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> "RunLock":
        if self._path in _HELD:
            raise RunError(f"This process already runs a grid in {self._folder}; wait for it.")
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            self._take(self._descriptor)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, self._card(), 0)
        except OSError as error:
            self._close()
            raise RunError(
                f"The folder {self._folder} cannot be written ({error.strerror or error}); make "
                "it writable and free some space, or choose another one with --out."
            ) from error
        except RunError:
            self._close()
            raise
        _HELD.add(self._path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _HELD.discard(self._path)
        self._path.unlink(missing_ok=True)  # before it is released, so that nobody holds a ghost
        self._close()

    def _take(self, descriptor: int) -> None:
        if fcntl is not None:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise self._refused(descriptor) from None
                if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
            else:
                # the one before may have removed the file between our open and our lock
                if not self._path.exists() or not os.path.samestat(
                    os.fstat(descriptor), self._path.stat()
                ):
                    raise RunError(f"{self._folder} was in use until now; try once more.")
                return
        if _alive(_holder(descriptor)):
            raise self._refused(descriptor)

    def _refused(self, descriptor: int) -> RunError:
        holder = _holder(descriptor)
        who = f"process {holder.get('pid', '?')} on {holder.get('host', 'some host')}"
        return RunError(
            f"{self._folder} is in use by {who}; wait until it is done, or choose another folder "
            f"with --out (if that process is surely gone, remove {self._path})."
        )

    def _card(self) -> bytes:
        return json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _holder(descriptor: int) -> dict[str, object]:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(holder: dict[str, object]) -> bool:
    """Whether the holder may still run; a process on another host cannot be asked."""
    pid, host = holder.get("pid"), holder.get("host")
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
