"""Runs a command for as long as the process that started it lives: the parent of the embedded database.

Started by `embedded` as a script, with the standard library only. Its standard input is a pipe that the
server holds open: when the server closes it, or is killed in whatever way, the pipe ends and the command is
told to stop, then killed. That works on every POSIX system; the other direction (this process killed) needs
Linux. A byte in the pipe says that the command works: from then on it is started again whenever it ends.
SecantusDB that is told to stop waits two seconds for its listener, which only a connection wakes: so it gets one.

    python embedded_supervisor.py GRACE_SECONDS INHERITED_FD PORT COMMAND...
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

_POLL_SECONDS = 0.1
_RESTART_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def main(grace: float, inherited: int, port: int, command: list[str]) -> int:
    """Run `command`, which listens on `port` and keeps the descriptor `inherited` open; return its exit code."""
    works, stop = Event(), Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    Thread(target=_listen, args=(works, stop), daemon=True).start()
    while True:
        with _running(command, inherited, port, grace) as child:
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
def _running(
    command: list[str], inherited: int, port: int, grace: float
) -> Iterator["subprocess.Popen[bytes]"]:
    child = subprocess.Popen(  # noqa: S603 - the command is the server's own
        command, stdin=subprocess.DEVNULL, pass_fds=[inherited], preexec_fn=_dies_with_parent()
    )
    try:
        yield child
    finally:
        child.terminate()
        if not _ends(child, port, grace):
            child.kill()
            child.wait()


def _ends(child: "subprocess.Popen[bytes]", port: int, seconds: float) -> bool:
    """Whether the child, which has its signal, ends within that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            child.wait(_POLL_SECONDS)
            return True
        # Not at once: the thread that serves a connection may take the signal, for which the first one waits.
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), _POLL_SECONDS).close()
    return False


def _dies_with_parent() -> Callable[[], None] | None:
    """Called in the child before it becomes the command: Linux then stops it when this process dies."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
