"""Ctrl-C, termination and a closed terminal as a flag that the training loop reads between steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType

#: What ends training after the step under way.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupt:
    """While active, SIGINT, SIGTERM and SIGHUP set ``requested``; a second SIGINT interrupts at once.

    A signal that the process was started to ignore, as ``nohup`` does, stays ignored.  One that the handler
    before has ``received`` counts: its exception was lost, in a library that was being imported, or the
    process would have ended.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Interrupt:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    before = self._previous[number] = signal.signal(number, self._handle)
                    received = getattr(getattr(before, "__self__", None), "received", None)
                    self.requested = self.requested or received is not None
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
