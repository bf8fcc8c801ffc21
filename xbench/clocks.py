"""Where the time goes: seconds by what was done, added up in this process while it works."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

NAMES = ("forward", "backward", "tails", "masks", "disk")


class Clocks:
    """Seconds spent, by name; what is inside something else is taken off the outer one."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(NAMES, 0.0)

    def add(self, name: str, seconds: float) -> None:
        """Book seconds under a name."""
        self.seconds[name] += seconds

    @contextmanager
    def spent(self, name: str) -> Iterator[None]:
        """Book the time of the block, less what is booked inside it."""
        before, start = sum(self.seconds.values()), time.perf_counter()
        try:
            yield
        finally:
            inside = sum(self.seconds.values()) - before
            self.add(name, time.perf_counter() - start - inside)

    def read(self) -> dict[str, float]:
        """The seconds so far."""
        return dict(self.seconds)

    def since(self, before: Mapping[str, float]) -> dict[str, float]:
        """What was booked since `before`."""
        return {name: value - before[name] for name, value in self.seconds.items()}


CLOCKS = Clocks()
"""The clocks of this process; on devices that work on while the program goes on, calls of the
network are not timed, since that would need waiting for them."""
