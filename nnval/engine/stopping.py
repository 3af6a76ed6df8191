"""How training is asked to stop: by Ctrl-C, by a progress callback, or by the process that gave a worker its task."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

from nnval.engine.run_directory import Interrupted

POLL_SECONDS = 0.25
"""How often those who wait look again."""


class Stop:
    """Whether training was asked to stop."""

    def __init__(self) -> None:
        self._requested = False

    @property
    def requested(self) -> bool:
        """Whether the epoch shall be finished and saved, and no other begun."""
        return self._requested

    def request(self) -> None:
        """Asks."""
        self._requested = True

    def pause(self, seconds: float = POLL_SECONDS) -> None:
        """Waits, and looks at the request meanwhile.

        Raises:
            Interrupted: if there is one.
        """
        end = time.monotonic() + seconds
        while not self.requested:
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, POLL_SECONDS / 5))
        raise Interrupted("stopped while another process was at work; run the same command again to go on")


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Turns the first Ctrl-C into a request, so that the epoch is finished and saved; a second one stops at once.

    So does SIGTERM, by which schedulers of clusters announce the end.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(*_: object) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.request()

    mine = [number for number, handler in before.items() if handler is not None]  # others cannot be put back
    for number in mine:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number in mine:
            signal.signal(number, before[number])
