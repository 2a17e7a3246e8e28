"""The runner with real processes that misbehave: crash, ignore signals, spew, leave children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shopfloor.plant.plant_file import RestartPolicy
from shopfloor.plant.specs import ProcessSpec
from shopfloor.plant.supervisor import Event, EventKind, StopLimits, Supervisor

NEVER = RestartPolicy("never", 0, 60.0, 0.0, 0.0)
QUICK = RestartPolicy("on_failure", 3, 60.0, 0.01, 0.02)
# Long enough for a shell on a busy machine, short enough to wait for.
SHORT = StopLimits(terminate_s=1.0, interrupt_s=1.0)
LIMIT_S = 20.0


class ShellSpec(ProcessSpec):
    """A spec that runs a shell script in the place of nodes."""

    def command(self, parameters_file: str) -> list[str]:
        return ["/bin/sh", "-c", self.arguments[0], "sh", parameters_file]


def spec(
    script: str, name: str = "p", restart: RestartPolicy = NEVER, essential: bool = True
) -> ProcessSpec:
    return ShellSpec(name, "here", (), (script,), {"WHO": name}, "a: 1\n", restart, essential)


def run_until(
    supervisor: Supervisor, reached: Callable[[list[Event]], bool], events: list[Event]
) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not reached(events):
        assert time.monotonic() < deadline, [f"{e.kind.value} {e.text}" for e in events]
        events += supervisor.poll(0.05)


def lines(events: list[Event]) -> list[str]:
    return [event.text for event in events if event.kind is EventKind.LINE]


def kinds(events: list[Event]) -> list[str]:
    return [event.kind.value for event in events if event.kind is not EventKind.LINE]


def wait_for_death(pid: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
    raise AssertionError(f"process {pid} lives on")


@pytest.fixture
def make() -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []
    # In the background SIGINT is ignored, and a shell cannot trap what it was born to ignore.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def build(*specs: ProcessSpec, **arguments: object) -> Supervisor:
        arguments.setdefault("limits", SHORT)
        made.append(Supervisor(specs, **arguments))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for supervisor in made:
        supervisor.kill()
        supervisor.close()
    signal.signal(signal.SIGINT, before)


def finish(supervisor: Supervisor) -> list[Event]:
    events: list[Event] = []
    supervisor.start()
    run_until(supervisor, lambda _: supervisor.done, events)
    return events + supervisor.stop()


def test_output_environment_and_parameter_file_arrive(make: Callable[..., Supervisor]) -> None:
    supervisor = make(spec('echo "$WHO"; cat "$1"; echo error >&2; printf unfinished'))
    events = finish(supervisor)
    assert lines(events) == ["p", "a: 1", "error", "unfinished"]
    assert kinds(events) == ["started", "exited"]
    assert supervisor.exit_code == 0


def test_a_failure_that_is_not_restarted_is_the_exit_code(make: Callable[..., Supervisor]) -> None:
    supervisor = make(spec("exit 7"))
    assert kinds(finish(supervisor)) == ["started", "exited", "gave_up"]
    assert supervisor.exit_code == 7
    assert supervisor.failures == {"p": 7}


def test_death_by_signal_is_128_and_its_number(make: Callable[..., Supervisor]) -> None:
    supervisor = make(spec("kill -SEGV $$"))
    events = finish(supervisor)
    assert "ended by SIGSEGV" in [event.text for event in events]
    assert supervisor.exit_code == 128 + signal.SIGSEGV


def test_a_process_that_crashes_at_once_is_restarted_up_to_the_limit(
    make: Callable[..., Supervisor],
) -> None:
    supervisor = make(spec("exit 3", restart=QUICK))
    events = finish(supervisor)
    assert kinds(events).count("started") == 4
    assert kinds(events).count("restarting") == 3
    assert events[-1].text == ("gave up: 3 restarts within 60 s; the line cannot run without it")
    assert supervisor.restarts == {"p": 3}
    assert supervisor.exit_code == 3


def test_an_essential_failure_ends_the_wait_another_does_not(
    make: Callable[..., Supervisor],
) -> None:
    supervisor = make(spec("exec sleep 60", "stays"), spec("exit 1", "extra", essential=False))
    supervisor.start()
    events: list[Event] = []
    run_until(supervisor, lambda e: "gave_up" in kinds(e), events)
    assert not supervisor.done
    assert set(supervisor.running) == {"stays"}
    supervisor.stop()
    assert supervisor.exit_code == 1

    other = make(spec("exec sleep 60", "stays"), spec("exit 9", "needed"))
    other.start()
    run_until(other, lambda _: other.done, [])
    assert set(other.running) == {"stays"}
    other.stop()
    assert other.exit_code == 9


def test_a_command_that_does_not_exist_is_told(make: Callable[..., Supervisor]) -> None:
    class Missing(ProcessSpec):
        def command(self, parameters_file: str) -> list[str]:
            return ["/no/such/program"]

    supervisor = make(Missing("p", "here", (), (), {}, "", NEVER, True))
    events = finish(supervisor)
    assert events[0].text == "cannot be started: /no/such/program: No such file or directory"
    assert supervisor.exit_code == 127


def test_stop_is_clean_with_sigterm(make: Callable[..., Supervisor]) -> None:
    supervisor = make(spec('trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.01; done'))
    supervisor.start()
    events: list[Event] = []
    run_until(supervisor, lambda e: "up" in lines(e), events)
    events = supervisor.stop()
    assert lines(events)[-1] == "bye"
    assert [event.text for event in events if event.kind is EventKind.STOPPING] == ["gets SIGTERM"]
    assert supervisor.exit_code == 0


def test_a_process_without_handler_ends_clean_too(make: Callable[..., Supervisor]) -> None:
    supervisor = make(spec("exec sleep 60"))
    supervisor.start()
    assert "ended by SIGTERM" in [event.text for event in supervisor.stop()]
    assert supervisor.exit_code == 0


def test_deaf_to_sigterm_gets_sigint_deaf_to_both_gets_sigkill(
    make: Callable[..., Supervisor],
) -> None:
    loop = "echo up; while :; do sleep 0.01; done"
    supervisor = make(
        spec(f'trap "" TERM; trap "exit 0" INT; {loop}', "half"),
        spec(f'trap "" INT TERM; {loop}', "deaf"),
    )
    supervisor.start()
    run_until(supervisor, lambda e: len(lines(e)) == 2, [])
    started = time.monotonic()
    events = supervisor.stop()
    took_s = time.monotonic() - started
    sent = [(e.process, e.text) for e in events if e.kind is EventKind.STOPPING]
    assert sent == [
        ("half", "gets SIGTERM"),
        ("deaf", "gets SIGTERM"),
        ("half", "gets SIGINT"),
        ("deaf", "gets SIGINT"),
        ("deaf", "gets SIGKILL"),
    ]
    assert 2.0 <= took_s < 10.0
    assert supervisor.failures == {"deaf": -signal.SIGKILL}
    assert supervisor.exit_code == 137


def test_a_failure_while_stopping_is_reported(make: Callable[..., Supervisor]) -> None:
    supervisor = make(spec('trap "exit 5" TERM; echo up; while :; do sleep 0.01; done'))
    supervisor.start()
    run_until(supervisor, lambda e: "up" in lines(e), [])
    supervisor.stop()
    assert supervisor.exit_code == 5


def test_children_of_a_process_end_with_it(make: Callable[..., Supervisor]) -> None:
    supervisor = make(spec("sleep 60 & echo $!; exit 4"))
    events = finish(supervisor)
    (pid,) = map(int, lines(events))
    wait_for_death(pid)
    assert supervisor.exit_code == 4


def test_a_daemon_that_escapes_with_the_pipe_does_not_hang_the_runner(
    make: Callable[..., Supervisor],
) -> None:
    supervisor = make(spec("setsid sleep 60 & echo $!; sleep 0.1; exit 0"))
    events = finish(supervisor)
    os.kill(int(lines(events)[0]), signal.SIGKILL)
    assert supervisor.exit_code == 0


def test_a_spewing_process_starves_nobody_and_stops(make: Callable[..., Supervisor]) -> None:
    supervisor = make(spec("exec yes", "spews"), spec("echo quiet; exec sleep 60", "quiet"))
    supervisor.start()
    events: list[Event] = []
    run_until(supervisor, lambda e: "quiet" in lines(e) and "y" in lines(e), events)
    for _ in range(5):
        assert len(supervisor.poll(0.05)) < 200_000
    supervisor.stop()
    assert not supervisor.running
    assert supervisor.exit_code == 0


def test_lines_that_are_long_binary_or_full_of_escapes(make: Callable[..., Supervisor]) -> None:
    supervisor = make(
        spec(
            r"printf '\033[31mred\033[0m\033]0;title\007\r\n\377\376 \001x\n'; "
            "head -c 20000 /dev/zero"
        )
    )
    got = lines(finish(supervisor))
    assert got[0] == "red]0;title"
    assert got[1] == "�� x"
    assert all(len(line) <= 8192 for line in got)


def test_restarted_processes_stop_too_and_a_waiting_one_stays_down(
    make: Callable[..., Supervisor],
) -> None:
    slow = RestartPolicy("always", 5, 60.0, 30.0, 30.0)
    supervisor = make(spec("exit 0", restart=slow))
    supervisor.start()
    run_until(supervisor, lambda e: "restarting" in kinds(e), [])
    assert not supervisor.done
    supervisor.stop()
    assert supervisor.done
    assert supervisor.exit_code == 0


def test_kill_is_quick(make: Callable[..., Supervisor]) -> None:
    supervisor = make(
        spec('trap "" INT TERM; echo up; while :; do sleep 0.01; done'),
        limits=StopLimits(60.0, 60.0),
    )
    supervisor.start()
    run_until(supervisor, lambda e: "up" in lines(e), [])
    started = time.monotonic()
    supervisor.kill()
    supervisor.stop()
    assert time.monotonic() - started < 5.0


def test_callback_hears_everything_and_close_is_idempotent(make: Callable[..., Supervisor]) -> None:
    heard: list[Event] = []
    supervisor = make(spec("echo hello"), on_event=heard.append)
    events = finish(supervisor)
    assert heard == events
    supervisor.close()
    supervisor.close()


def test_processes_end_when_their_runner_is_killed() -> None:
    child = (
        "from shopfloor.plant.parent import end_with_parent\n"
        "import os, signal\n"
        "end_with_parent(); print(os.getpid(), flush=True); signal.pause()"
    )
    runner = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_plant_supervisor import NEVER, ProcessSpec, Supervisor\n"
        "class Spec(ProcessSpec):\n"
        "    def command(self, file): return [sys.executable, '-c', self.arguments[0]]\n"
        f"s = Supervisor([Spec('p', 'h', (), ({child!r},), {{}}, '', NEVER, True)])\n"
        "s.start()\n"
        "while True:\n"
        "    for e in s.poll(): print(e.text, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", runner, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("started")
        pid = int(process.stdout.readline())
        process.kill()
        wait_for_death(pid)


def test_processes_end_when_a_runner_without_open_files_to_hand_on_is_killed() -> None:
    child = (
        "from shopfloor.plant.parent import end_with_parent\n"
        "import os, signal\n"
        "end_with_parent(); print(os.getpid(), flush=True); signal.pause()"
    )
    runner = (
        "import os, subprocess, sys, tempfile; from pathlib import Path\n"
        "from shopfloor.plant.parent import PARENT_PIPE_VARIABLE, named_pipe\n"
        "pipe = Path(tempfile.mkdtemp()) / 'parent'; named_pipe(pipe)\n"
        "environment = {**os.environ, PARENT_PIPE_VARIABLE: str(pipe)}\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], env=environment)\n"
        "child.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", runner], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert Path(f"/proc/{pid}").exists(), "it lives while its runner does"
        process.kill()
        wait_for_death(pid)


def test_a_process_whose_runner_is_gone_before_it_looks_ends_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "parent")
    child = "from shopfloor.plant.parent import end_with_parent\nimport signal\n"
    ended = subprocess.run(
        [sys.executable, "-c", child + "end_with_parent(); signal.pause()"],
        env={**os.environ, "SHOPFLOOR_PARENT_PIPE": str(tmp_path / "parent")},
        stderr=subprocess.DEVNULL,
        timeout=LIMIT_S,
    )
    assert ended.returncode != 0
