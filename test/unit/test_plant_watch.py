"""The watch over a process: who is stuck, who is only starved, who is stopped or too large."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shopfloor.plant.last_words import LastWords
from shopfloor.plant.peers import Peers
from shopfloor.plant.process_signs import Down, ProcessSigns
from shopfloor.plant.runner_state import ProcessState, RunnerStateReader, write_runner_state
from shopfloor.plant.vital_signs import GONE, STOPPED, CoreWait, memory_mb, run_state
from shopfloor.plant.watch import PERIOD_S, Verdict, Watch
from shopfloor.ros.notify import notify

S = 1_000_000_000
TICK_NS = int(PERIOD_S * S)
PID = 4711


class FakeProc:
    """A /proc with one process, whose threads are as told."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.set(1)

    def set(self, tid: int, state: str = "S", ran_s: float = 0.0, waited_s: float = 0.0) -> None:
        task = self.root / str(PID) / "task" / str(tid)
        task.mkdir(parents=True, exist_ok=True)
        (task / "stat").write_text(f"{tid} (a ) b) {state} 1 2 3\n")
        (task / "schedstat").write_text(f"{int(ran_s * S)} {int(waited_s * S)} 9\n")


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


def test_a_thread_that_waited_for_a_core_held_its_process_up(proc: FakeProc) -> None:
    proc.set(2, waited_s=5.0)
    wait = CoreWait(PID, 0, proc.root)
    proc.set(1, ran_s=0.1, waited_s=0.2)
    proc.set(2, waited_s=5.7)
    assert wait.since_last_s(S) == pytest.approx(0.7)
    assert wait.since_last_s(2 * S) == 0.0


def test_a_wait_that_goes_on_counts_before_the_kernel_adds_it_up(proc: FakeProc) -> None:
    proc.set(1, "R", ran_s=3.0)
    wait = CoreWait(PID, 0, proc.root)
    proc.set(1, "R", ran_s=3.1)
    assert wait.since_last_s(S) == pytest.approx(0.9)


def test_who_runs_all_the_time_or_sleeps_all_the_time_is_not_held_up(proc: FakeProc) -> None:
    proc.set(1, "R", ran_s=3.0)
    wait = CoreWait(PID, 0, proc.root)
    proc.set(1, "R", ran_s=4.0)
    assert wait.since_last_s(S) == 0.0
    proc.set(1, "S", ran_s=4.0)
    assert wait.since_last_s(2 * S) == 0.0


def test_a_new_thread_and_a_process_that_is_gone_count_nothing(proc: FakeProc) -> None:
    wait = CoreWait(PID, 0, proc.root)
    proc.set(3, waited_s=99.0)
    assert wait.since_last_s(S) == 0.0
    assert CoreWait(PID + 1, 0, proc.root).since_last_s(S) == 0.0


def test_states_and_memory_of_real_processes() -> None:
    process = subprocess.Popen([sys.executable, "-c", "b = bytearray(50_000_000); input()"],
                               stdin=subprocess.PIPE)  # fmt: skip
    try:
        eventually(lambda: memory_mb(process.pid) > 50.0)
        assert memory_mb(process.pid) < 150.0
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: run_state(process.pid) == STOPPED)
    finally:
        process.kill()
        eventually(lambda: run_state(process.pid) == GONE)  # a zombie has ended, too
        process.communicate()
    assert run_state(process.pid) == GONE
    assert memory_mb(process.pid) == 0.0


def eventually(predicate: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Watched:
    """A watch on this very process (alive, not stopped), with a clock of the test's own."""

    def __init__(self, folder: Path, watchdog_s: float = 1.5, memory_limit_mb: float = 0.0) -> None:
        self.now_ns = 0
        self.address = str(folder / "n")
        self.watch = Watch(self.address, watchdog_s, memory_limit_mb, clock_ns=lambda: self.now_ns)
        self.watch.begin(os.getpid())

    def look(self, seconds: float, step_s: float = PERIOD_S) -> Verdict | None:
        for _ in range(round(seconds / step_s)):
            self.now_ns += int(step_s * S)
            if (verdict := self.watch.look()) is not None:
                return verdict
        return None


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    made = Watched(tmp_path)
    # Its clock is not this machine's: what the kernel says of waits would not fit.
    monkeypatch.setattr(CoreWait, "since_last_s", lambda self, now_ns: 0.0)
    for name, value in made.watch.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.watch.close()
    assert not Path(made.address).exists()


def test_a_start_may_take_long_but_not_for_ever(watched: Watched) -> None:
    assert watched.look(89.0) is None
    verdict = watched.look(2.0)
    assert verdict is not None and verdict.number is signal.SIGABRT
    assert verdict.cause == "not ready after 90 s"


def test_silence_of_a_process_that_was_ready_is_a_verdict(watched: Watched) -> None:
    assert watched.look(60.0) is None
    assert notify("READY=1")
    assert watched.look(1.4) is None
    verdict = watched.look(0.3)
    assert verdict is not None and verdict.number is signal.SIGABRT
    assert verdict.cause.startswith("stuck: no progress for 1.")


def test_signs_of_life_keep_it(watched: Watched) -> None:
    for _ in range(20):
        notify("WATCHDOG=1")
        assert watched.look(1.4) is None


def test_what_it_said_before_it_moved_again_is_no_cause(watched: Watched) -> None:
    notify("READY=1", "STATUS=/l/inspector: worker 'inference' is on one job for 12 s")
    notify("WATCHDOG=1")
    verdict = watched.look(2.0)
    assert verdict is not None and verdict.cause.startswith("stuck: no progress")


def test_its_own_word_is_the_cause(watched: Watched) -> None:
    notify("READY=1")
    notify("STATUS=/l/inspector: worker 'inference' is on one job for 12 s")
    verdict = watched.look(2.0)
    assert verdict is not None and "worker 'inference'" in verdict.cause


def test_patience_is_granted_and_ends(watched: Watched) -> None:
    notify("READY=1")
    notify("WATCHDOG_USEC=60000000", "WATCHDOG=1")
    assert watched.look(59.0) is None
    notify("WATCHDOG_USEC=1500000", "WATCHDOG=1")
    assert watched.look(2.0) is not None


def test_one_that_says_that_it_ends_is_left_alone(watched: Watched) -> None:
    notify("READY=1")
    notify("STOPPING=1")
    notify("WATCHDOG=1")
    assert watched.look(100.0) is None


def test_a_new_process_starts_with_a_clean_slate(watched: Watched) -> None:
    notify("READY=1")
    notify("STATUS=old")
    assert watched.look(2.0) is not None
    watched.watch.begin(os.getpid())
    assert watched.look(60.0) is None


def test_a_runner_that_was_held_up_does_not_blame_the_process(watched: Watched) -> None:
    notify("READY=1")
    assert watched.look(30.0, step_s=5.0) is None


def test_a_starved_process_is_late_not_stuck(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CoreWait, "since_last_s", lambda self, now_ns: 0.95 * PERIOD_S)
    notify("READY=1")
    assert watched.look(8.0) is None
    assert watched.look(20.0) is not None, "it did have a core for more than its limit by now"


def test_memory_over_the_limit_is_a_verdict_without_a_word(tmp_path: Path) -> None:
    watched = Watched(tmp_path, memory_limit_mb=1.0)
    verdict = watched.look(0.1)
    assert verdict is not None and verdict.number is signal.SIGKILL
    assert verdict.cause.startswith("over its memory limit: ")
    assert verdict.cause.endswith(" MB of 1 MB")
    watched.watch.close()


@pytest.mark.parametrize("datagram", [b"\xff\xfe", b"", b"WATCHDOG_USEC=soon", b"=", b"\n" * 4000])
def test_nonsense_on_the_socket_changes_nothing(watched: Watched, datagram: bytes) -> None:
    import socket

    notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(datagram, watched.address)
    assert watched.look(1.4) is None
    assert watched.look(0.3) is not None


def test_the_dump_of_a_hang_names_our_innermost_frame() -> None:
    words = LastWords()
    for line in (
        "Fatal Python error: Aborted",
        "Thread 0x00007f50 (most recent call first):",
        '  File "/x/shopfloor/ros/worker.py", line 9 in take',
        "Current thread 0x00007f51 [python] (most recent call first):",
        '  File "/usr/lib/python3.11/socket.py", line 706 in readinto',
        '  File "/x/src/shopfloor/camera/node.py", line 120 in _on_tick',
        '  File "/x/src/shopfloor/ros/node.py", line 400 in guarded',
    ):
        words.hear(line)
    assert words.place == "camera/node.py:120, _on_tick"


def test_a_hang_outside_our_code_is_named_too_and_no_dump_is_no_place() -> None:
    words = LastWords()
    assert words.place == ""
    words.hear("Thread 0x00007f51 (most recent call first):")
    words.hear('  File "/usr/lib/python3.11/threading.py", line 3 in wait')
    assert words.place == "threading.py:3, wait"
    words.hear('  File "/x/vendor/device.py", line 4 in read')
    words.hear('  File "/usr/lib/python3.11/threading.py", line 9 in run')
    words.hear('  File "/x/src/shopfloor/plant/group.py", line 3 in main')
    assert words.place == "device.py:4, read"


def test_the_last_exception_is_kept() -> None:
    words = LastWords()
    for line in (
        "ValueError: not in a traceback",
        "Traceback (most recent call last):",
        '  File "x.py", line 1, in f',
        "    ValueError: a source line",
        "KeyError: 'first'",
        "Traceback (most recent call last):",
        '  File "x.py", line 1, in f',
        "shopfloor.x.BadError: second: more",
        "bye: now",
    ):
        words.hear(line)
    assert words.exception == "shopfloor.x.BadError: second: more"


def test_the_runner_state_is_read_back_and_survives_nonsense(tmp_path: Path) -> None:
    file = tmp_path / "runner.json"
    reader = RunnerStateReader(str(file))
    assert reader.read() == {}
    states = {"vision": ProcessState(0, 3, "ended by SIGKILL", True)}
    write_runner_state(file, states)
    assert reader.read() == states
    file.write_text('{"vision": {"pi')
    assert reader.read() == states
    write_runner_state(file, {})
    assert reader.read() == {}
    assert RunnerStateReader().read() == {}


def signs(folder: Path, **processes: ProcessState) -> ProcessSigns:
    file = folder / "runner.json"
    write_runner_state(file, processes)
    made = ProcessSigns(RunnerStateReader(str(file)))
    made.refresh()
    return made


def test_the_runner_knows_best_why_a_process_is_down(tmp_path: Path) -> None:
    known = signs(
        tmp_path,
        waits=ProcessState(0, 1, "ended by SIGKILL", False),
        again=ProcessState(7, 1, "ended by SIGKILL", False),
        never=ProcessState(0, 5, "ended with exit code 2", True),
        first=ProcessState(8, 0, "", False),
    )
    assert known.down("waits", 1) == Down("ended by SIGKILL; to be started again")
    assert known.down("again", 1) == Down("ended by SIGKILL; starts again as process 7")
    assert known.down("never", 1) == Down("ended with exit code 2; it stays down", True)
    assert known.never_up("never") == known.down("never", 1)
    assert known.never_up("first") is None
    assert known.last_end("again") == "ended by SIGKILL"
    assert known.last_end("nobody") == known.last_end("first") == ""


def test_without_a_runner_the_process_itself_is_looked_at() -> None:
    known = ProcessSigns(RunnerStateReader())
    known.refresh()
    assert known.down("here", os.getpid()) is None
    process = subprocess.Popen(["sleep", "60"])
    try:
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: run_state(process.pid) == STOPPED)
        stopped = known.down("it", process.pid)
        assert stopped is not None and "SIGSTOP" in stopped.cause
    finally:
        process.kill()
        process.wait()
    assert known.down("it", process.pid) == Down(f"process {process.pid} has ended")


def test_peers_are_unheard_alive_or_silent() -> None:
    peers = Peers({"/cell/server_manager": "server", "/cell/jetson_manager": "jetson"})
    assert peers.unheard() == ["server", "jetson"]
    for name in ("/cell/server_manager", "/cell/jetson_manager", "/cell/camera"):
        peers.beat(name, 10.0)
    assert peers.unheard() == [] and peers.silent(11.0) == []
    peers.beat("/cell/jetson_manager", 10.5)
    assert peers.silent(11.2) == ["server"]
    peers.held_up(0.5, 11.2)
    assert peers.silent(11.2) == []
