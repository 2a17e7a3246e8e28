"""Why a process ended, in its own words: the place where it hung, or its last exception.

It reads what Python prints: the dump of `faulthandler` after SIGABRT, whose last thread is the main
one, and tracebacks, which end with a line `Error: text` at the left margin.
"""

from __future__ import annotations

import re

_THREAD = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):")
_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)')
_LIBRARY = re.compile(r".*/lib/python3[^/]*/|<frozen ")
_SURROUNDINGS = r"ros/(?:main|node|endpoint_node)\.py|plant/group\.py"
_OWN = re.compile(rf".*/shopfloor/(?P<file>(?!{_SURROUNDINGS}).+)")
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: .*)?")


class LastWords:
    """Takes in the output of one process, line by line."""

    def __init__(self) -> None:
        self._place = ""
        self._rank = -1
        self._in_traceback = False
        self._exception = ""

    def hear(self, line: str) -> None:
        """One line of its output."""
        if _THREAD.match(line):
            self._place, self._rank = "", -1
        elif frame := _FRAME.match(line):
            own = _OWN.match(frame["file"])
            # The innermost frame says little where it is a library's: our own tells more.
            rank = 2 if own else 0 if _LIBRARY.match(frame["file"]) else 1
            if rank > self._rank:
                name = own["file"] if own else frame["file"].rpartition("/")[2]
                self._place = f"{name}:{frame['line']}, {frame['function']}"
                self._rank = rank
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
