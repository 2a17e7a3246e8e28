"""A process that ends when its runner is gone, even if that was killed.

The runner keeps the writing end of a pipe open; each process watches the reading end. A signal for
the parent's death (PR_SET_PDEATHSIG) would come when the *thread* that started the process ends.
"""

from __future__ import annotations

import os
import signal
import threading

PARENT_FD_VARIABLE = "SHOPFLOOR_PARENT_FD"
GRACE_S = 5.0


def end_with_parent() -> None:
    """Interrupt this process when the runner that started it is gone; nothing without a runner."""
    text = os.environ.pop(PARENT_FD_VARIABLE, "")
    if text.isdigit():
        thread = threading.Thread(target=_watch, args=(int(text),), name="parent", daemon=True)
        thread.start()


def _watch(fd: int) -> None:
    try:
        while os.read(fd, 1):
            pass
    except OSError:
        return  # not our pipe: the variable came from elsewhere
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(GRACE_S)
    os._exit(1)
