"""Runs a command for as long as the process that started it lives: the parent of the embedded database.

Started by `embedded` as a script, with the standard library only. Its standard input is a pipe that the
server holds open: when the server closes it, or is killed in whatever way, the pipe ends and the command is
told to stop, then killed. That works on every POSIX system; the other direction (this process killed) needs
Linux.

    python embedded_supervisor.py GRACE_SECONDS INHERITED_FD COMMAND...
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def main(grace: float, inherited: int, command: list[str]) -> int:
    """Run `command`, which keeps the file descriptor `inherited` open; return its exit code."""
    finished = threading.Event()
    child = subprocess.Popen(  # noqa: S603 - the command is the server's own
        command, stdin=subprocess.DEVNULL, pass_fds=[inherited], preexec_fn=_dies_with_parent()
    )

    def stop_when_alone() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        child.terminate()
        if not finished.wait(grace):
            child.kill()

    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=stop_when_alone, daemon=True).start()
    code = child.wait()
    finished.set()
    return code if code >= 0 else 128 - code


def _dies_with_parent() -> Callable[[], None] | None:
    """Called in the child before it becomes the command: Linux then stops it when this process dies."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
