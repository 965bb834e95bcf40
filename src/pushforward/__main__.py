"""``python -m pushforward`` is ``pushforward``."""

import os
import sys

if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]  # `python -m` looks for modules in the working folder first, which may be a stranger's

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
