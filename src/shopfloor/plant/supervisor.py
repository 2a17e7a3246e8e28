"""Runs process specs without ROS: starts, watches, restarts, reads the logs, stops cleanly.

    with Supervisor(specs) as supervisor:
        while not supervisor.done:
            for event in supervisor.poll(0.2):
                print(event.process, event.text)
    sys.exit(supervisor.exit_code)

One thread: everything happens inside `start`, `poll` and `stop`.
"""

from __future__ import annotations

import os
import selectors
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from shopfloor.plant.child import Child
from shopfloor.plant.last_words import LastWords
from shopfloor.plant.parent import PARENT_FD_VARIABLE
from shopfloor.plant.restart import RestartCounter
from shopfloor.plant.runner_state import (
    RUNNER_STATE_VARIABLE,
    ProcessState,
    write_runner_state,
)
from shopfloor.plant.segments import lock_files_of, remove_orphans
from shopfloor.plant.specs import ProcessSpec
from shopfloor.plant.watch import PERIOD_S, Watch

_SLICE_S = 0.1
_OBSERVE_PERIOD_S = 1.0
_LAST_WORDS_S = 1.0
"""What gets SIGABRT has so long to say where it hangs, before SIGKILL."""
_CANNOT_START = 127
_CLEAN_STOPS = (0, -signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)


class EventKind(Enum):
    """What happened to a process."""

    STARTED = "started"
    LINE = "line"
    EXITED = "exited"
    RESTARTING = "restarting"
    GAVE_UP = "gave_up"
    STOPPING = "stopping"
    CLEANED = "cleaned"
    CONDEMNED = "condemned"


@dataclass(frozen=True)
class Event:
    """One thing that happened. `text`: log line or words. `bad`: a person should look."""

    kind: EventKind
    process: str
    text: str
    bad: bool
    unix_time_s: float


@dataclass(frozen=True)
class StopLimits:
    """How long a process may take after SIGTERM, then after SIGINT, before SIGKILL.

    SIGTERM comes first: a Python that gets SIGINT while it starts prints a traceback and fails.
    """

    terminate_s: float = 8.0
    interrupt_s: float = 3.0


@dataclass
class _Slot:
    """A process of the plant, running or not. `due_s`: when to start it, None: not any more.

    condemned: why it has to go; kill_s: when it gets SIGKILL if it has not gone by then.
    """

    spec: ProcessSpec
    parameters_file: str
    restart: RestartCounter
    watch: Watch
    child: Child | None = None
    due_s: float | None = 0.0
    starts: int = 0
    lock_files: set[str] = field(default_factory=set)
    words: LastWords = field(default_factory=LastWords)
    condemned: str = ""
    kill_s: float = 0.0
    last_end: str = ""
    gave_up: bool = False


class Supervisor:
    """The processes of a plant on this machine.

    on_event: called with each event as it happens, from within `start`, `poll` and `stop`.
    environment: laid under each spec's own; the caller's by default.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        on_event: Callable[[Event], None] | None = None,
        limits: StopLimits | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._on_event = on_event
        self._limits = limits or StopLimits()
        self._environment = dict(os.environ if environment is None else environment)
        self._folder = tempfile.TemporaryDirectory(prefix="shopfloor-")
        self._parent_read, self._parent_write = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._events: list[Event] = []
        self._failures: dict[str, int] = {}
        self._essential_failed = False
        self._stop_steps: list[tuple[float, signal.Signals]] | None = None
        self._observed_s = self._watched_s = 0.0
        self._closed = False
        self._left_behind: set[str] = set()
        self._slots: dict[str, _Slot] = {}
        for spec in specs:
            file = Path(self._folder.name) / f"{spec.name}.yaml"
            file.write_text(spec.parameters, "utf-8")
            watch = Watch(f"{self._folder.name}/{spec.name}.n", spec.watchdog_s, spec.memory_mb)
            self._slots[spec.name] = _Slot(spec, str(file), RestartCounter(spec.restart), watch)
        self._state_file = Path(self._folder.name) / "runner.json"

    # What the caller uses ------------------------------------------------------------------------

    def start(self) -> None:
        """Start all processes."""
        self._start_due()

    def poll(self, timeout_s: float = _SLICE_S) -> list[Event]:
        """Wait up to `timeout_s` for something to happen, deal with it, return what happened."""
        deadline = time.monotonic() + timeout_s
        while True:
            wait_s = max(0.0, min(deadline - time.monotonic(), _SLICE_S))
            for key, _ in self._selector.select(0.0 if self._events else wait_s):
                self._read(key.data)
            self._reap()
            self._observe()
            self._watch()
            self._take_stop_steps()
            self._start_due()
            if self._events or self.done or time.monotonic() >= deadline:
                events, self._events = self._events, []
                return events

    def request_stop(self) -> None:
        """Begin to stop everything: SIGTERM now; `poll` follows with SIGINT and SIGKILL in time."""
        if self._stop_steps is not None:
            return
        now = time.monotonic()
        interrupt_at = now + self._limits.terminate_s
        self._stop_steps = [
            (now, signal.SIGTERM),
            (interrupt_at, signal.SIGINT),
            (interrupt_at + self._limits.interrupt_s, signal.SIGKILL),
        ]
        for slot in self._slots.values():
            slot.due_s = None
        self._take_stop_steps()

    def kill(self) -> None:
        """SIGKILL to everything, now."""
        self.request_stop()
        self._stop_steps = [(0.0, signal.SIGKILL)]
        self._take_stop_steps()

    def stop(self) -> list[Event]:
        """Stop everything and wait until it has ended; returns the events of the way."""
        self.request_stop()
        events = self.poll(0.0)
        while self.running:
            events += self.poll()
        remove_orphans(self._left_behind)
        self._left_behind.clear()
        return events

    def close(self) -> None:
        """Stop, then free what the supervisor holds; safe to call twice."""
        if self._closed:
            return
        self.stop()
        self._closed = True
        self._selector.close()
        os.close(self._parent_read)
        os.close(self._parent_write)
        for slot in self._slots.values():
            slot.watch.close()
        self._folder.cleanup()

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> dict[str, int]:
        """Process ids of what runs, by name."""
        return {name: slot.child.pid for name, slot in self._slots.items() if slot.child}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each process was started again."""
        return {name: max(0, slot.starts - 1) for name, slot in self._slots.items()}

    @property
    def failures(self) -> dict[str, int]:
        """Exit codes of what failed for good or did not end cleanly; minus a signal's number."""
        return dict(self._failures)

    @property
    def done(self) -> bool:
        """Nothing more to wait for: all have ended, or an essential one has given up."""
        if self._essential_failed and self._stop_steps is None:
            return True
        return all(slot.child is None and slot.due_s is None for slot in self._slots.values())

    @property
    def exit_code(self) -> int:
        """0, or that of the first process that failed (128 + number for a signal)."""
        code = next(iter(self._failures.values()), 0)
        return code if code >= 0 else 128 - code

    # What poll does ------------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots.values():
            if slot.child is None and slot.due_s is not None and slot.due_s <= now:
                self._start_one(slot)

    def _start_one(self, slot: _Slot) -> None:
        slot.due_s = None
        slot.starts += 1
        environment = {
            **self._environment,
            **slot.spec.environment,
            **slot.watch.environment,
            PARENT_FD_VARIABLE: str(self._parent_read),
            RUNNER_STATE_VARIABLE: str(self._state_file),
        }
        command = slot.spec.command(slot.parameters_file)
        try:
            slot.child = Child(command, environment, self._parent_read)
        except OSError as error:
            self._say(
                EventKind.EXITED, slot, f"cannot be started: {command[0]}: {error.strerror}", True
            )
            slot.last_end = "cannot be started"
            self._after_end(slot, _CANNOT_START)
            return
        slot.watch.begin(slot.child.pid)
        slot.words, slot.condemned = LastWords(), ""
        self._selector.register(slot.child, selectors.EVENT_READ, slot)
        self._say(EventKind.STARTED, slot, f"started, process {slot.child.pid}")
        self._write_state()

    def _read(self, slot: _Slot) -> None:
        if slot.child is None:
            return
        for line in slot.child.read_lines():
            self._take_line(slot, line)
        if slot.child.at_end:
            self._selector.unregister(slot.child)

    def _reap(self) -> None:
        for slot in self._slots.values():
            child = slot.child
            if child is None:
                continue
            code = child.ended()
            if code is None:
                continue
            for line in child.last_lines():
                self._take_line(slot, line)
            if child in self._selector.get_map():
                self._selector.unregister(child)
            slot.child = None
            child.close()
            stopping = self._stop_steps is not None
            bad = code not in _CLEAN_STOPS if stopping else code != 0
            slot.last_end = _why(slot, code)
            self._say(EventKind.EXITED, slot, slot.last_end, bad)
            if code != 0:
                self._clean_up(slot)
            self._left_behind |= slot.lock_files
            slot.lock_files.clear()
            self._after_end(slot, code)

    def _take_line(self, slot: _Slot, line: str) -> None:
        slot.words.hear(line)
        self._say(EventKind.LINE, slot, line)

    def _after_end(self, slot: _Slot, code: int) -> None:
        self._decide(slot, code)
        self._write_state()

    def _decide(self, slot: _Slot, code: int) -> None:
        name = slot.spec.name
        if self._stop_steps is not None:
            if code not in _CLEAN_STOPS:
                self._failures.setdefault(name, code)
            return
        if not slot.restart.wanted(code):
            if code != 0:
                self._give_up(slot, code, "is not restarted")
            return
        delay_s = slot.restart.next_delay_s(time.monotonic(), code)
        if delay_s is None:
            policy = slot.spec.restart
            self._give_up(
                slot, code, f"gave up: {policy.limit} restarts within {policy.within_s:g} s"
            )
            return
        slot.due_s = time.monotonic() + delay_s
        self._say(EventKind.RESTARTING, slot, f"restart in {delay_s:.1f} s", True)

    def _give_up(self, slot: _Slot, code: int, why: str) -> None:
        self._failures.setdefault(slot.spec.name, code)
        if slot.spec.essential:
            self._essential_failed = True
            why += "; the line cannot run without it"
        slot.gave_up = True
        self._say(EventKind.GAVE_UP, slot, why, True)

    def _take_stop_steps(self) -> None:
        while self._stop_steps and time.monotonic() >= self._stop_steps[0][0]:
            _, number = self._stop_steps.pop(0)
            for slot in self._slots.values():
                if slot.child is not None:
                    bad = number != signal.SIGTERM
                    self._say(EventKind.STOPPING, slot, f"gets {number.name}", bad)
                    slot.lock_files |= lock_files_of(slot.child.pid)
                    slot.child.send(number)

    def _observe(self) -> None:
        """Note what each process holds in shared memory while it can still be asked."""
        now = time.monotonic()
        if now - self._observed_s < _OBSERVE_PERIOD_S:
            return
        self._observed_s = now
        for slot in self._slots.values():
            if slot.child is not None:
                slot.lock_files |= lock_files_of(slot.child.pid)

    def _watch(self) -> None:
        """Condemn what is stuck or too large; once everything stops, there are limits for that."""
        now = time.monotonic()
        if now - self._watched_s < PERIOD_S or self._stop_steps is not None:
            return
        self._watched_s = now
        for slot in self._slots.values():
            if slot.child is None:
                continue
            if slot.condemned:
                if now >= slot.kill_s:
                    slot.child.send(signal.SIGKILL)
                continue
            verdict = slot.watch.look()
            if verdict is not None:
                slot.condemned, slot.kill_s = verdict.cause, now + _LAST_WORDS_S
                text = f"{verdict.cause}; gets {verdict.number.name}"
                self._say(EventKind.CONDEMNED, slot, text, True)
                slot.lock_files |= lock_files_of(slot.child.pid)
                slot.child.send(verdict.number)

    def _write_state(self) -> None:
        states = {
            name: ProcessState(
                slot.child.pid if slot.child else 0,
                max(0, slot.starts - 1),
                slot.last_end,
                slot.gave_up,
            )
            for name, slot in self._slots.items()
        }
        write_runner_state(self._state_file, states)

    def _clean_up(self, slot: _Slot) -> None:
        removed = remove_orphans(slot.lock_files)
        if removed:
            text = f"removed {len(removed)} shared-memory files that it left behind"
            self._say(EventKind.CLEANED, slot, text)

    def _say(self, kind: EventKind, slot: _Slot, text: str, bad: bool = False) -> None:
        event = Event(kind, slot.spec.name, text, bad, time.time())
        self._events.append(event)
        if self._on_event is not None:
            self._on_event(event)


def _why(slot: _Slot, code: int) -> str:
    """How a process ended, with what is known of the reason."""
    ending = _ending(code)
    if slot.condemned:
        where = f", in {slot.words.place}" if slot.words.place else ""
        return f"{slot.condemned}{where}; {ending}"
    said = slot.words.exception if code > 0 else ""
    return f"{ending}: {said}" if said else ending


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
