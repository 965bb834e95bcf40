"""``pushforward`` commands in forks of one process that has imported everything: a command starts at once.

``commands(folder)`` makes a program ``pushforward`` in a folder, for the front of PATH.  It behaves as the
installed one: its own process, streams, working folder, environment and exit status.  Tests of imports,
signals, closed streams or several processes start the installed program instead.
"""

from __future__ import annotations

import array
import atexit
import functools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

#: What stands in PATH as ``pushforward``: hands its streams over and ends as the command does.
CLIENT = """#!{python} -IS
import array, json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({place!r})
streams = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
server.sendmsg([b"."], streams)
server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
server.shutdown(socket.SHUT_WR)
sys.exit(int(server.makefile().read()))
"""


@functools.cache
def _server() -> str:
    """The socket of the process that forks, started at the first call."""
    place = os.path.join(tempfile.mkdtemp(prefix="forks-"), "socket")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    process = subprocess.Popen(
        [sys.executable, __file__, place], stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    atexit.register(process.kill)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return place


def commands(folder: Path) -> Path:
    """``folder``, with a program ``pushforward`` in it."""
    program = folder / "pushforward"
    program.write_text(CLIENT.format(python=sys.executable, place=_server()))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


@functools.cache
def _program() -> Path:
    return commands(Path(tempfile.mkdtemp(prefix="forks-"))) / "pushforward"


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``pushforward ARGUMENTS`` in a process of its own, and what it printed."""
    command = [str(_program()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


# -- the server ----------------------------------------------------------------------------------------


def _serve(place: str) -> None:
    import lightning_fabric
    import matplotlib.pyplot
    import ot
    import pandas
    import rich.console
    import sklearn.mixture

    import pushforward.cli.look
    import pushforward.cli.train
    import pushforward.cli.use
    import pushforward.estimators
    import pushforward.inference
    import pushforward.report

    del sys.path[0]  # the folder of the tests
    assert lightning_fabric and matplotlib and ot and pandas and rich and sklearn and pushforward
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place)
    listening.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        caller, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(caller)
        caller.close()


def _answer(caller: socket.socket) -> None:
    """Run what is asked for in a fork, tell its status, and end."""
    size = socket.CMSG_LEN(3 * array.array("i").itemsize)
    _, handed, _, _ = caller.recvmsg(1, size)
    streams = array.array("i", handed[0][2])
    arguments, cwd, environment = json.loads(caller.makefile().read())
    child = os.fork()
    if child == 0:
        caller.close()
        _become(list(streams), arguments, cwd, environment)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    caller.sendall(str(status if status >= 0 else 128 - status).encode())
    os._exit(0)


def _become(streams: list[int], arguments: list[str], cwd: str, environment: dict[str, str]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["pushforward", *arguments]
    status: object = 1
    try:
        from pushforward.__main__ import run

        status = run()
    except SystemExit as end:
        status = end.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


if __name__ == "__main__":
    _serve(sys.argv[1])
