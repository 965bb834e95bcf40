"""``python -m pushforward.cli`` is ``pushforward`` too."""

import os
import sys

if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]  # as in `python -m pushforward`

from .entry import main

if __name__ == "__main__":
    sys.exit(main())
