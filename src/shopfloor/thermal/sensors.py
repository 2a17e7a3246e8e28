"""Temperatures as the Linux kernel gives them: thermal zones with their trip points, and hwmon.

    sensors = Sensors(Path("/sys"))
    for reading in sensors.read(): ...

Facts: Documentation/driver-api/thermal/sysfs-api.rst and Documentation/hwmon/sysfs-interface.rst of
the kernel. Values are thousandths of a degree Celsius.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shopfloor.thermal.sysfs import Fault, Value, numbered, read_number, read_text

_TRIP_SANE_CELSIUS = (20.0, 200.0)
"""A trip point outside is one that the firmware has switched off (0, -274)."""

_BELOW_CRITICAL_CELSIUS = 10.0
_CRITICAL_BELIEVED_CELSIUS = 60.0
"""Some firmware names a critical point at room temperature; nothing shuts down there."""

_CORETEMP_MARGIN_CELSIUS = 3.0
"""Intel's CPUs throttle at what coretemp calls critical; its temp_max asks the fans for more."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """A temperature sensor. limit: where throttling begins, critical: shutdown; NaN: not known.

    fault_path: attribute that is not 0 while the driver knows the sensor to be faulty; empty: none.
    """

    name: str
    source: str
    path: str
    limit_celsius: float = math.nan
    critical_celsius: float = math.nan
    fault_path: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one sensor: NaN where `fault` says why."""

    sensor: Sensor
    celsius: float
    fault: Fault


class Sensors:
    """The sensors under a sysfs root; one that was there once is named for ever.

    ignore: patterns of names that are left out. limits: patterns with the limit that replaces the
    kernel's. default_limit_celsius: of all sensors, where not one has a limit; 0: none. A sensor
    that has a critical point and nothing else is limited 10 degrees below it.
    expected: names that must be there, MISSING where they are not.
    """

    def __init__(
        self,
        root: Path,
        *,
        ignore: Sequence[str] = (),
        limits: Sequence[tuple[str, float]] = (),
        default_limit_celsius: float = 85.0,
        expected: Sequence[str] = (),
    ) -> None:
        self._root = root
        self._ignore = tuple(ignore)
        self._limits = tuple(limits)
        self._default_limit = default_limit_celsius
        self._found = {name: Sensor(name, "", "") for name in expected if not _is_pattern(name)}
        self._sensors: tuple[Sensor, ...] = ()
        self.discover()

    @property
    def sensors(self) -> tuple[Sensor, ...]:
        """All that are known, those that went missing too."""
        return self._sensors

    def discover(self) -> None:
        """Look for sensors that came, and for known ones that now have another number."""
        zones = self._zones()
        for sensor in (*zones, *self._hwmon({_plain(zone.name) for zone in zones})):
            if not self.ignores(sensor.name):
                self._found[sensor.name] = self.limited(sensor)
        # Anew each time: a sensor that is gone must not count as one that has a limit of its own.
        found = self._found.values()
        none_has = all(math.isnan(sensor.limit_celsius) for sensor in found)
        default = self._default_limit if self._default_limit and none_has else math.inf
        self._sensors = tuple(_with_fallback(sensor, default) for sensor in found)

    def read(self) -> list[Reading]:
        """One reading of each sensor, in the order of `sensors`."""
        return [_read(sensor) for sensor in self._sensors]

    def ignores(self, name: str) -> bool:
        """Whether a sensor of this name is left out, also one of another source."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self._ignore)

    def limited(self, sensor: Sensor) -> Sensor:
        """The sensor, also one of another source, with the limit that was set for its name."""
        for pattern, celsius in self._limits:
            if fnmatch.fnmatchcase(sensor.name, pattern):
                return replace(sensor, limit_celsius=celsius)
        return sensor

    def _zones(self) -> list[Sensor]:
        found: list[Sensor] = []
        for folder in numbered(self._root / "class" / "thermal", "thermal_zone[0-9]*"):
            name = read_text(folder / "type")
            if name:
                limit, critical = _trip_points(folder)
                path = str(folder / "temp")
                found.append(Sensor(name, folder.name, path, limit, critical))
        return _unique(found)

    def _hwmon(self, zones: set[str]) -> list[Sensor]:
        """Sensors of hwmon drivers; the kernel shows each thermal zone as one of them, too."""
        found: list[Sensor] = []
        for folder in numbered(self._root / "class" / "hwmon", "hwmon[0-9]*"):
            driver = read_text(folder / "name")
            if not driver or _plain(driver) in zones:
                continue
            for path in numbered(folder, "temp[0-9]*_input"):
                stem = path.name.removesuffix("_input")
                label = read_text(folder / f"{stem}_label")
                limit = _sane(read_number(folder / f"{stem}_max"))
                critical = _sane(read_number(folder / f"{stem}_crit"))
                if driver == "coretemp" and not math.isnan(critical):
                    limit = critical - _CORETEMP_MARGIN_CELSIUS
                source = f"{folder.name}/{stem}"
                name = f"{driver}:{label or stem}"
                fault = folder / f"{stem}_fault"
                fault_path = str(fault) if fault.exists() else ""
                found.append(Sensor(name, source, str(path), limit, critical, fault_path))
        return _unique(found)


def parse_limit(text: str) -> tuple[str, float]:
    """Read `PATTERN=CELSIUS`, for example `tj-thermal=95`. Raises ValueError."""
    pattern, equals, number = text.rpartition("=")
    try:
        celsius = float(number)
    except ValueError:
        celsius = math.nan
    if not (equals and pattern and _TRIP_SANE_CELSIUS[0] <= celsius <= _TRIP_SANE_CELSIUS[1]):
        low, high = _TRIP_SANE_CELSIUS
        raise ValueError(
            f"{text!r} is not ZONE=CELSIUS with {low:g} to {high:g} degrees, such as tj-thermal=95"
        )
    return pattern, celsius


def below_critical(critical_celsius: float) -> float:
    """Limit where nothing but the critical point is known; NaN: that is not known either."""
    if critical_celsius >= _CRITICAL_BELIEVED_CELSIUS:
        return critical_celsius - _BELOW_CRITICAL_CELSIUS
    return math.nan


def _with_fallback(sensor: Sensor, default_celsius: float) -> Sensor:
    if not math.isnan(sensor.limit_celsius):
        return sensor
    known = [below_critical(sensor.critical_celsius), default_celsius]
    limit = min((celsius for celsius in known if math.isfinite(celsius)), default=math.nan)
    return replace(sensor, limit_celsius=limit)


def _read(sensor: Sensor) -> Reading:
    if not sensor.path:
        return Reading(sensor, math.nan, Fault.MISSING)
    if sensor.fault_path and read_number(sensor.fault_path).number > 0.0:
        return Reading(sensor, math.nan, Fault.OFFLINE)
    value = read_number(sensor.path)
    return Reading(sensor, value.number / 1000.0, value.fault)


def _trip_points(folder: Path) -> tuple[float, float]:
    """Lowest passive (else hot) trip point that slows something, and the lowest critical one."""
    tells_only = _alert_trips(folder)
    points: dict[str, list[float]] = {}
    for path in numbered(folder, "trip_point_[0-9]*_temp"):
        celsius = _sane(read_number(path))
        stem = path.name.removesuffix("_temp")
        if not math.isnan(celsius) and stem not in tells_only:
            points.setdefault(read_text(folder / f"{stem}_type"), []).append(celsius)
    limits = points.get("passive") or points.get("hot") or [math.nan]
    return min(limits), min(points.get("critical", [math.nan]))


def _alert_trips(folder: Path) -> set[str]:
    """Trip points bound to nothing but alerts, such as that of a hot surface at 70 degrees.

    A throttle-alert is the notice of a throttle, and its trip point a limit.
    """
    kinds: dict[str, list[str]] = {}
    for path in numbered(folder, "cdev[0-9]*_trip_point"):
        device = folder / path.name.removesuffix("_trip_point")
        kinds.setdefault(f"trip_point_{read_text(path)}", []).append(read_text(device / "type"))
    return {
        trip
        for trip, bound in kinds.items()
        if all("alert" in kind and "throttle" not in kind for kind in bound)
    }


def _sane(value: Value) -> float:
    celsius = value.number / 1000.0
    return celsius if _TRIP_SANE_CELSIUS[0] <= celsius <= _TRIP_SANE_CELSIUS[1] else math.nan


def _unique(sensors: list[Sensor]) -> list[Sensor]:
    """Two of one name become NAME and NAME#2."""
    seen: dict[str, int] = {}
    made = []
    for sensor in sensors:
        count = seen[sensor.name] = seen.get(sensor.name, 0) + 1
        made.append(sensor if count == 1 else replace(sensor, name=f"{sensor.name}#{count}"))
    return made


def _plain(name: str) -> str:
    """hwmon writes the type of a zone with underscores."""
    return name.replace("-", "_").lower()


def _is_pattern(name: str) -> bool:
    return any(c in name for c in "*?[")
