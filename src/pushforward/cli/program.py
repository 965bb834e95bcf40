"""The process of a command: its streams, its signals, and its exit status."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

#: Exit status of what is refused or fails for a reason that is told.
REFUSED = 2
#: Exit status if the reader of standard output has closed it, as shells count signals.
NOBODY_READS = 128 + getattr(signal, "SIGPIPE", 13)
#: Words of errors of torch's that say that memory is short.
SHORT_OF_MEMORY = (
    "not enough memory",
    "out of memory",
    "allocate memory",
    "Storage size calculation overflowed",
    "storage is not resizable",
)


class _Heedless(io.FileIO):
    """A stream whose errors, such as a full disk or a closed terminal, do not stop the command."""

    # bytes alone come here, where a raw stream takes any buffer
    def write(self, data: bytes) -> int:  # type: ignore[reportIncompatibleMethodOverride]
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


class _Named(io.FileIO):
    """Standard output, whose errors say so."""

    # bytes alone come here, where a raw stream takes any buffer
    def write(self, data: bytes) -> int:  # type: ignore[reportIncompatibleMethodOverride]
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, f"standard output: {error.strerror}") from None


class Signals:
    """Signals that end the process by an exception, so that what it was doing is cleaned up."""

    def __init__(self) -> None:
        #: the signal that came, None for none
        self.received: int | None = None

    def watch(self) -> None:
        """Handle signals from here on."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            raise KeyboardInterrupt

    def forget(self) -> None:
        """From here on a signal ends the process at once, without a message."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == self._hear:
                signal.signal(number, signal.SIG_DFL)


def set_streams() -> None:
    """Characters that a stream cannot show are spelt out, and nothing is lost with standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _stream(_Named(sys.stdout.fileno(), "wb", closefd=False), sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _stream(_Heedless(sys.stderr.fileno(), "wb", closefd=False), sys.stderr)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))


def _stream(raw: io.FileIO, old: io.TextIOWrapper) -> io.TextIOWrapper:
    """A stream to ``raw`` that is buffered and encoded as ``old``."""
    old.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        old.encoding,
        "backslashreplace",
        line_buffering=old.line_buffering,
        write_through=old.write_through,
    )


def flush() -> None:
    """Write out what was printed.  Raises OSError that says so where it cannot be, and prints no more."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        if isinstance(sys.stdout, io.TextIOWrapper):  # else the end of Python tries, and complains, again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def short_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that there is too little memory, of this machine or of a device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (
            type(error).__name__ == "OutOfMemoryError" or any(word in str(error) for word in SHORT_OF_MEMORY)
        )
    )


def in_one_line(text: str, limit: int = 1000) -> str:
    """``text`` without line breaks and control characters; of a long one its two ends.

    >>> in_one_line("a\\nb  c"), len(in_one_line("x" * 5000))
    ('a b c', 1000)
    """
    line = " ".join(text.split())
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    half = (limit - 5) // 2
    return line if len(line) <= limit else f"{line[: limit - 5 - half]} ... {line[-half:]}"


def guarded(run: Callable[[], int], tell: Callable[[str], None]) -> int:
    """The exit status of ``run``; what ends it is told in one line.  Errors that are bugs go on."""
    try:
        try:
            status = run()
        except SystemExit as stop:  # help was asked for
            if stop.code:
                raise
            status = 0
        flush()
        return status
    except BrokenPipeError:
        return _unread()
    except (ValueError, OSError) as error:
        told = _words(error)
        try:
            flush()
        except BrokenPipeError:
            return _unread()
        except OSError as lost:
            told = _words(lost)
        tell(in_one_line(told))
        return REFUSED
    except RecursionError:
        tell("something is nested too deeply")
        return REFUSED
    except (RuntimeError, MemoryError) as error:
        if short_of_memory(error):
            tell(in_one_line(f"not enough memory; take fewer rows, or smaller sizes ({_words(error)})", 300))
        elif not type(error).__module__.startswith("pushforward"):
            raise
        elif str(error):
            tell(in_one_line(str(error)))
        return REFUSED


def _unread() -> int:
    try:
        flush()
    except OSError:
        pass
    return NOBODY_READS


def _words(error: BaseException) -> str:
    """What an error says; of one of the operating system's without its number."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error) or type(error).__name__
