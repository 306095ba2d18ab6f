"""Runs a command for as long as the process that started it lives: the parent of the embedded database.

Started by `embedded` as a script, with the standard library only. Its standard input is a pipe that the
server holds open: when the server closes it, or is killed in whatever way, the pipe ends and the command is
told to stop, then killed. That works on every POSIX system; the other direction (this process killed) needs
Linux. A byte in the pipe says that the command works: from then on it is started again whenever it ends.

    python embedded_supervisor.py GRACE_SECONDS INHERITED_FD COMMAND...
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

_POLL_SECONDS = 0.1
_RESTART_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def main(grace: float, inherited: int, command: list[str]) -> int:
    """Run `command`, which keeps the file descriptor `inherited` open; return its exit code."""
    works, stop = Event(), Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    Thread(target=_listen, args=(works, stop), daemon=True).start()
    while True:
        with _running(command, inherited, grace) as child:
            while child.poll() is None and not stop.wait(_POLL_SECONDS):
                pass
        if stop.is_set() or not works.is_set():
            return child.returncode if child.returncode >= 0 else 128 - child.returncode
        print(f"the database ended with status {child.returncode} and is started again", flush=True)
        stop.wait(_RESTART_SECONDS)


def _listen(works: Event, stop: Event) -> None:
    """Hear what the server says until it closes the pipe or is gone."""
    while os.read(sys.stdin.fileno(), 1):
        works.set()
    stop.set()


@contextmanager
def _running(command: list[str], inherited: int, grace: float) -> Iterator["subprocess.Popen[bytes]"]:
    child = subprocess.Popen(  # noqa: S603 - the command is the server's own
        command, stdin=subprocess.DEVNULL, pass_fds=[inherited], preexec_fn=_dies_with_parent()
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _dies_with_parent() -> Callable[[], None] | None:
    """Called in the child before it becomes the command: Linux then stops it when this process dies."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
