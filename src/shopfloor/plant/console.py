"""The runner's log on the terminal: one line each, in the colour of its process.

Colours only on a terminal and without NO_COLOR (rich decides).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from shopfloor.plant.supervisor import Event, EventKind

_COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
_SEVERITIES = {"[ERROR]": "bold red", "[FATAL]": "bold red", "[WARN]": "yellow", "[DEBUG]": "dim"}
LINES_PER_S = 200
"""A process that writes more than this is shown in part: nobody could read it."""


class LogPrinter:
    """Prints events; `names` are the processes, for the width of the column."""

    def __init__(self, names: Iterable[str], console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        known = list(names)
        self._width = max((len(name) for name in known), default=0)
        self._colour = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(known)}
        self._second = 0
        self._shown: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        """Print one event."""
        second = int(event.unix_time_s)
        if second != self._second:
            self._summarise()
            self._second = second
        if event.kind is EventKind.LINE:
            self._shown[event.process] += 1
            if self._shown[event.process] > LINES_PER_S:
                return
        self._print(event)

    def _summarise(self) -> None:
        for name, count in self._shown.items():
            if count > LINES_PER_S:
                text = f"... {count - LINES_PER_S} more lines in this second"
                self._print(Event(EventKind.LINE, name, text, False, float(self._second)))
        self._shown.clear()

    def _print(self, event: Event) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(event.unix_time_s))
        line = Text.assemble((f"{clock} ", "dim"))
        line.append(f"{event.process:{self._width}} ", self._colour.get(event.process, ""))
        if event.kind is EventKind.LINE:
            line.append("| ", "dim")
            style = next((s for tag, s in _SEVERITIES.items() if event.text.startswith(tag)), "")
        else:
            line.append("* ", "dim")
            style = "bold red" if event.bad else "bold"
        line.append(event.text, style)
        self._console.print(line)
