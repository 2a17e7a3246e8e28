"""Part ids from a hardware trigger's count, or the frames': parts have names without a PLC."""

from __future__ import annotations

import string
import time
from collections.abc import Callable

_ALLOWED = (
    "allowed: {trigger}, with a format such as :06d, and {series}; or {frame} with {series}, where "
    "each frame is one part"
)


class PartNumbers:
    """Ids by a template such as `belt1-{series}-{trigger:06d}`.

    trigger: the device's count of triggers; it goes on where frames are lost, so that a lost frame
        costs its own part's id and no other's.
    frame: instead of it the source's count of frames, for a line where each frame is one part; it
        needs `{series}`, as it begins anew with the process.
    series: UTC time (`20260131T120000`) at which the count began anew: when the device was opened,
        or its count did not run on. Nobody knows how many parts passed while the camera was away,
        so an id of before never comes again.

    Without `{series}` the ids of several cameras on one trigger line agree. Once the count began
    anew they could be another part's, so there are none until `begin`: `lost` says so.

    Raises ValueError when the template is not usable.
    """

    def __init__(self, template: str, clock_s: Callable[[], float] = time.time) -> None:
        self._template = template
        self._clock_s = clock_s
        self._series_s = 0
        self.begin()
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(template) if field}
            template.format(trigger=1, frame=1, series="")
        except (ValueError, KeyError, IndexError) as error:
            raise ValueError(f"part_template {template!r}: {error}; {_ALLOWED}") from error
        if len(fields & {"trigger", "frame"}) != 1:
            text = "has no {trigger}" if "trigger" not in fields else "has {trigger} and {frame}"
            raise ValueError(f"part_template {template!r} {text}; {_ALLOWED}")
        self._has_series = "series" in fields
        self.counts_frames = "frame" in fields
        if self.counts_frames and not self._has_series:
            raise ValueError(f"part_template {template!r} has no {{series}}; {_ALLOWED}")

    def begin(self) -> None:
        """Forget the count: the camera was closed, and nobody knows how many parts passed since."""
        self._opening = 0
        self._last = 0
        self.lost = False

    def part_id(self, number: int, opening: int) -> str:
        """The id of the part of that trigger or frame; empty when none can be given (0: none).

        opening: how often the device has been opened.
        """
        if number <= 0:
            return ""
        if number <= self._last or opening != self._opening:
            self.lost = self._last > 0 and not self._has_series
            # Two within one second must differ, too.
            self._series_s = max(int(self._clock_s()), self._series_s + 1)
        self._last, self._opening = number, opening
        series = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._series_s))
        if self.lost:
            return ""
        return self._template.format(trigger=number, frame=number, series=series)
