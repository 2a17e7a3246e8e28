"""Reads `requirements.lock`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from .errors import BootstrapError

SECTIONS = ("ros", "build", "runtime", "dev")
_HEADER = re.compile(r"^# == (\S+)$")
_NEEDED = re.compile(r"^#\s+and what these need$")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)(\s*;\s*.+)?$")


def normalise(name: str) -> str:
    """Name of a distribution in the one spelling of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass
class Section:
    """Requirement lines of one section: what is used itself, and what that needs."""

    direct: list[str] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """All of them."""
        return self.direct + self.needed


def read_lock(path: Path) -> dict[str, Section]:
    """The sections of the lock file.

    Raises BootstrapError with file and line where a line is neither a pin nor a comment.
    """
    sections = {name: Section() for name in SECTIONS}
    current: list[str] | None = None
    section = Section()
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = raw.strip()
        if header := _HEADER.match(line):
            name = header.group(1)
            if name not in sections:
                raise BootstrapError(
                    f"{path}:{number}: unknown section '{name}'; allowed: {', '.join(SECTIONS)}"
                )
            section = sections[name]
            current = section.direct
        elif _NEEDED.match(line) and current is not None:
            current = section.needed
        elif line and not line.startswith("#"):
            if current is None or not _PIN.match(line):
                raise BootstrapError(
                    f"{path}:{number}: '{line}' is not NAME==VERSION below a '# == SECTION' line"
                )
            current.append(line)
    return sections


def pin_name(requirement: str) -> str:
    """Normalised name of one requirement line."""
    return normalise(requirement.split("==", 1)[0])


def pin_version(lines: list[str], name: str) -> str:
    """The pinned version of `name`; BootstrapError where the lock file lacks it."""
    for line in lines:
        if pin_name(line) == normalise(name):
            return line.split("==", 1)[1].split(";", 1)[0].strip()
    raise BootstrapError(f"requirements.lock pins no '{name}'")
