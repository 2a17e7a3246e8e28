"""A process stands back as far as the plant file says, against the others of the plant too."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.plant import niceness
from shopfloor.plant.group_arguments import parse
from shopfloor.plant.niceness import AUTOGROUP, cpu_weight, stand_back

REPORT = """
import os, sys, threading
from pathlib import Path
from shopfloor.plant.niceness import stand_back
stand_back(int(sys.argv[1]))
found = []
thread = threading.Thread(target=lambda: found.append(os.getpriority(os.PRIO_PROCESS, 0)))
thread.start(); thread.join()
group = Path("/proc/self/autogroup")
print(found[0], *((group.read_text() if group.exists() else "").split()[-1:] or ["none"]))
"""


def reported(nice: int, *, leads: bool, prefix: tuple[str, ...] = ()) -> list[str]:
    """Niceness of a thread and of the session's group, as the process itself reads them."""
    command = [*prefix, sys.executable, "-c", REPORT, str(nice)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, start_new_session=leads
    ).stdout.split()


def own() -> tuple[int, str]:
    """Niceness of this process and of its group; a session as old as the kernel has none."""
    words = (AUTOGROUP.read_text() if AUTOGROUP.exists() else "").split()
    return os.getpriority(os.PRIO_PROCESS, 0), words[-1] if words else "none"


def test_threads_and_the_group_of_the_session_stand_back() -> None:
    before, _ = own()
    thread, session = reported(7, leads=True)
    assert int(thread) == max(before, 7)
    if session == "none":
        pytest.skip("this kernel has no groups of sessions (sched_autogroup)")
    assert session == "7"


def test_a_group_of_others_stays_as_it_is() -> None:
    before, group = own()
    thread, session = reported(7, leads=False)
    assert (int(thread), session) == (max(before, 7), group)


def test_who_was_started_nicer_stays_so() -> None:
    before, _ = own()
    thread, _ = reported(3, leads=True, prefix=("nice", "-n", "9"))
    assert int(thread) == min(before + 9, 19)


def test_nothing_is_asked_for_where_nothing_is_said(tmp_path: Path) -> None:
    stand_back(0, tmp_path / "autogroup")
    assert not (tmp_path / "autogroup").exists()


def test_the_kernel_may_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy:
        asked = 0

        def write_text(self, text: str) -> None:
            Busy.asked += 1
            if Busy.asked < 4:
                raise BlockingIOError(errno.EAGAIN, "try again")
            assert text == "5"

    waits: list[float] = []
    monkeypatch.setattr(niceness.time, "sleep", waits.append)
    monkeypatch.setattr(niceness.os, "setpriority", lambda *_: None)
    monkeypatch.setattr(niceness.os, "getsid", lambda _: niceness.os.getpid())
    stand_back(5, Busy())  # type: ignore[arg-type]
    assert Busy.asked == 4 and len(waits) == 3


def test_weights_are_those_of_the_niceness() -> None:
    assert [cpu_weight(nice) for nice in (0, 5, 10, 19)] == [100, 33, 11, 1]


def test_a_wrong_one_is_refused() -> None:
    assert parse(["--node", "camera:eye", "--nice", "5", "--ros-args"]).nice == 5
    for wrong in ("20", "-1", "x"):
        with pytest.raises(SystemExit):
            parse(["--node", "camera:eye", "--nice", wrong])
