"""An append-only log in which every line holds the hash of the one before. Needs no ROS.

A line that is changed, swapped, taken out or put in breaks the chain; `verify` says where. Two
things leave no trace in the file itself: its end cut off, and a chain that was computed anew from
some line on. Both show against a `Tail` that was kept elsewhere, also when the log has grown since.
One line is one JSON object: n, stamp_ns, the entry's own fields, prev, sha256 (of the line without
it, keys sorted, no spaces).

    python -m shopfloor.ros.audit --help
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  python -m shopfloor.ros.audit ~/.local/state/shopfloor/domain_0/line_1.line_state/audit.jsonl
  python -m shopfloor.ros.audit --kept 17:9f2c...e1 audit.jsonl

exit codes: 0 all unbroken, 1 one is broken or cannot be read, 2 the command line is wrong
"""

GENESIS = "0" * 64
RESERVED = frozenset({"n", "stamp_ns", "prev", "sha256"})


class AuditError(ValueError):
    """The chain is broken; the message names file, line and what is wrong."""


@dataclass(frozen=True)
class Tail:
    """The end of a log: how many lines, and the hash of the last."""

    count: int = 0
    sha256: str = GENESIS

    def __str__(self) -> str:
        return f"{self.count}:{self.sha256}"

    @staticmethod
    def parse(text: str) -> Tail:
        """Of COUNT:SHA256. Raises ValueError."""
        count, _, sha256 = text.partition(":")
        if not count.isdecimal() or len(sha256) != len(GENESIS):
            raise ValueError(f"'{text}' is not COUNT:SHA256")
        return Tail(int(count), sha256)


def verify(path: Path, kept: Tail | None = None) -> Tail:
    """Check every line of a log, and that it still holds a tail that was `kept` elsewhere.

    Raises AuditError at the first that does not fit, OSError.
    """
    tail = Tail()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            tail = _follow(tail, line, f"{path}:{number}")
            if kept is not None and kept.count == tail.count and kept != tail:
                raise AuditError(f"{path}:{number}: written anew: its hash is not the one kept")
    if kept is not None and kept.count > tail.count:
        raise AuditError(f"{path}: cut off: {tail.count} entries, {kept.count} were kept")
    return tail


def _follow(tail: Tail, line: bytes, where: str) -> Tail:
    if not line.endswith(b"\n"):
        raise AuditError(f"{where}: the last line is not whole")
    try:
        entry = json.loads(line)
        claimed = entry.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise AuditError(f"{where}: not an entry of an audit log") from None
    if entry.get("n") != tail.count + 1:
        raise AuditError(f"{where}: entry {entry.get('n')}, expected {tail.count + 1}")
    if entry.get("prev") != tail.sha256:
        raise AuditError(f"{where}: does not follow the entry before it")
    if claimed != _hash(entry):
        raise AuditError(f"{where}: was changed: its content does not give its hash")
    return Tail(tail.count + 1, str(claimed))


def _canonical(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _hash(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(entry).encode()).hexdigest()


class AuditLog:
    """Writes one log. `torn`: a line that a power cut left unfinished, moved aside, or None."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the log.

        Raises AuditError where the chain is broken, OSError where it cannot be written or another
        process writes it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.torn = self._move_torn_line_aside()
            self._tail = verify(path)
        except BlockingIOError:
            self._file.close()
            raise OSError(f"audit log {path}: another process writes it") from None
        except AuditError:
            self._file.close()
            raise

    @property
    def tail(self) -> Tail:
        """The end of the log as written."""
        return self._tail

    def append(self, stamp_ns: int, entry: Mapping[str, Any], flush: bool = False) -> Tail:
        """Write an entry; it survives the end of the process, with `flush` a power cut too.

        Raises ValueError where `entry` uses a reserved key, OSError.
        """
        if taken := RESERVED & entry.keys():
            raise ValueError(f"reserved in an audit entry: {', '.join(sorted(taken))}")
        count = self._tail.count + 1
        whole: dict[str, Any] = {
            **entry, "n": count, "stamp_ns": stamp_ns, "prev": self._tail.sha256,
        }  # fmt: skip
        sha256 = _hash(whole)
        self._file.write(_canonical({**whole, "sha256": sha256}).encode() + b"\n")
        self._file.flush()
        if flush:
            os.fsync(self._file.fileno())
        self._tail = Tail(count, sha256)
        return self._tail

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _move_torn_line_aside(self) -> Path | None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole == len(content):
            return None
        aside = self.path.with_name(f"{self.path.name}.torn")
        with aside.open("ab") as torn:
            torn.write(content[whole:] + b"\n")
        self._file.truncate(whole)
        return aside


def main(files: Sequence[str]) -> int:
    """Verify logs; exit code 1 where one is broken or cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m shopfloor.ros.audit",
        description="Find lines of audit logs that were changed, swapped, taken out or put in.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--kept", type=Tail.parse, metavar="COUNT:SHA256",
        help="a tail that was printed before: finds an end that was cut off, a log written anew",
    )  # fmt: skip
    arguments = parser.parse_args(files)
    if arguments.kept is not None and len(arguments.files) > 1:
        parser.error("--kept belongs to one FILE")
    code = 0
    for path in arguments.files:
        try:
            tail = verify(path, arguments.kept)
            print(f"{path}: {tail.count} entries, unbroken; keep elsewhere: {tail}")
        except (AuditError, OSError) as error:
            print(error, file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
