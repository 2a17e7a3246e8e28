"""One running process of the plant: its process group, its output line by line, its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence

READ_BYTES = 65536
MAX_LINE_BYTES = 8192
_LAST_READS = 64
_UNPRINTABLE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Child:
    """A started process in a session and process group of its own. Raises OSError on failure.

    parent_fd: reading end of the runner's pipe, handed on to the process.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], parent_fd: int
    ) -> None:
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(parent_fd,),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._partial = b""
        self.at_end = False
        os.set_blocking(self.fileno(), False)

    @property
    def pid(self) -> int:
        """Process id, and id of its process group."""
        return self._process.pid

    def fileno(self) -> int:
        """File descriptor of its output, for a selector."""
        return self._output.fileno()

    def read_lines(self) -> list[str]:
        """The lines that came since (of up to `READ_BYTES`); sets `at_end` when no more can."""
        return self._lines(self._read())

    def last_lines(self) -> list[str]:
        """Once it has ended: all that is left, an unfinished line included."""
        lines: list[str] = []
        # Bounded, as something that left its process group may still hold the pipe and write.
        for _ in range(_LAST_READS):
            data = self._read()
            lines += self._lines(data)
            if not data:
                break
        if self._partial:
            lines.append(_clean(self._partial))
            self._partial = b""
        return lines

    def _read(self) -> bytes:
        if self.at_end:
            return b""
        try:
            data = os.read(self.fileno(), READ_BYTES)
        except BlockingIOError:
            return b""
        self.at_end = not data
        return data

    def _lines(self, data: bytes) -> list[str]:
        *whole, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > MAX_LINE_BYTES:
            whole.append(self._partial)
            self._partial = b""
        return [_clean(line) for line in whole]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group; nothing where it is gone."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def ended(self) -> int | None:
        """Exit code once the process has ended (minus the signal's number), else None.

        What it started and left running is killed with it.
        """
        # WNOWAIT: until it is reaped, its number cannot be given to somebody else.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if self._process.returncode is None:
            if os.waitid(os.P_PID, self.pid, flags) is None:
                return None
            self.send(signal.SIGKILL)
            self._process.wait()
        return self._process.returncode

    def close(self) -> None:
        """Close its output."""
        self._output.close()


def _clean(line: bytes) -> str:
    """Text of a line without what could play with the terminal."""
    text = line[:MAX_LINE_BYTES].decode("utf-8", errors="replace")
    return _UNPRINTABLE.sub("", text.expandtabs(4)).rstrip()
