"""Stamps: what a set-up or a build was made from.

A stamp is written last, so an interrupted step leaves none and is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path


def digest_text(parts: Iterable[str]) -> str:
    """SHA-256 over the parts, each with its length, so that no two lists collide."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode()
        sha.update(f"{len(data)}:".encode())
        sha.update(data)
    return sha.hexdigest()


def digest_files(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over names (relative to `root`) and contents; a missing file counts as such."""
    parts = []
    for path in sorted(paths):
        parts.append(str(path.relative_to(root)))
        parts.append(hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing")
    return digest_text(parts)


def read_stamp(path: Path) -> dict[str, str]:
    """The stamp, or an empty one where there is none or it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_stamp(path: Path, stamp: dict[str, str]) -> None:
    """Writes the stamp in one step: whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
