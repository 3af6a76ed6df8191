"""Tells the user that kernels are being compiled: the first use takes some seconds, later ones find them on disk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event


@contextmanager
def announced_compilation(tell: Callable[[str], None]) -> Iterator[None]:
    """While the context lasts, say once if a kernel has to be compiled.

    Args:
        tell: called with one line of text.

    Yields:
        Nothing.
    """
    with event.install_listener("numba:compile", _Once(tell)):
        yield


class _Once(event.Listener):
    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell: Callable[[str], None] | None = tell

    def on_start(self, event: Any) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell("compiling the simulator for this processor, once: about ten seconds")

    def on_end(self, event: Any) -> None:
        pass
