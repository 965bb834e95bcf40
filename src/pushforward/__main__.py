"""``python -m pushforward`` is ``pushforward``."""

import os
import signal
import sys

if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]  # `python -m` looks for modules in the working folder first, which may be a stranger's


def run() -> int:
    """The command that this process was started with; its exit status."""
    # until the command listens, which takes the import of what it is made of, Ctrl-C ends without a word
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli.entry import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
