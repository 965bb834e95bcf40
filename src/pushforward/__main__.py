"""``python -m pushforward`` is ``pushforward``."""

import signal
import sys


def run() -> int:
    """The command that this process was started with; its exit status."""
    # until the command listens, which takes the import of what it is made of, Ctrl-C ends without a word
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
