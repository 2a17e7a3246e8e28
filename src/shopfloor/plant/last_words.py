"""Why a process ended, in its own words: the place where it hung, or its last exception.

It reads what Python prints: the dump of `faulthandler` after SIGABRT, whose last thread is the main
one, and tracebacks, which end with a line `Error: text` at the left margin.
"""

from __future__ import annotations

import re

_THREAD = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):")
_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)')
_OWN = re.compile(r".*/shopfloor/(?P<file>(?!ros/main\.py).+)")
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: .*)?")


class LastWords:
    """Takes in the output of one process, line by line."""

    def __init__(self) -> None:
        self._place = ""
        self._is_own = False
        self._in_traceback = False
        self._exception = ""

    def hear(self, line: str) -> None:
        """One line of its output."""
        if _THREAD.match(line):
            self._place, self._is_own = "", False
        elif frame := _FRAME.match(line):
            own = _OWN.match(frame["file"])
            # The innermost frame says little where it is the standard library's: ours is nearer.
            if not self._place or (own and not self._is_own):
                name = own["file"] if own else frame["file"].rpartition("/")[2]
                self._place = f"{name}:{frame['line']}, {frame['function']}"
                self._is_own = bool(own)
        elif line.startswith(_TRACEBACK):
            self._in_traceback = True
        elif self._in_traceback and _EXCEPTION.fullmatch(line):
            self._in_traceback, self._exception = False, line

    @property
    def place(self) -> str:
        """Where its main thread was when it was aborted; empty where it did not say."""
        return self._place

    @property
    def exception(self) -> str:
        """The exception of its last traceback; empty where there was none."""
        return self._exception
