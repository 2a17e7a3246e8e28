"""A process that ends when its runner is gone, even if that was killed.

The runner keeps the writing end of a pipe open; each process watches the reading end. A signal for
the parent's death (PR_SET_PDEATHSIG) would come when the *thread* that started the process ends.
`ros2 launch` hands no open files on, so there the pipe has a name; a SIGTERM to `launch` leaves its
processes running.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

PARENT_FD_VARIABLE = "SHOPFLOOR_PARENT_FD"
PARENT_PIPE_VARIABLE = "SHOPFLOOR_PARENT_PIPE"
GRACE_S = 5.0


def named_pipe(path: Path) -> int:
    """Make the pipe for PARENT_PIPE_VARIABLE; its processes end when the returned file closes."""
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)  # with O_WRONLY, open would wait for a reader


def end_with_parent() -> None:
    """Interrupt this process when the runner that started it is gone; nothing without a runner."""
    text = os.environ.pop(PARENT_FD_VARIABLE, "")
    path = os.environ.pop(PARENT_PIPE_VARIABLE, "")
    if text.isdigit():
        _watch_beside(int(text))
    elif path:
        try:  # without waiting: the runner may be gone already, and then the first read says so
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return  # the variable came from elsewhere
        os.set_blocking(fd, True)
        _watch_beside(fd)


def _watch_beside(fd: int) -> None:
    threading.Thread(target=_watch, args=(fd,), name="parent", daemon=True).start()


def _watch(fd: int) -> None:
    try:
        while os.read(fd, 1):
            pass
    except OSError:
        return  # not our pipe: the variable came from elsewhere
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(GRACE_S)
    os._exit(1)
