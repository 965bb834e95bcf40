"""Ctrl-C and termination as a flag that the training loop reads between steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupt:
    """While active, the first SIGINT or SIGTERM sets ``requested``; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Interrupt:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
