"""Files that were built from a model: quantised models and TensorRT plans.

Each is a pair: the file itself, and beside it a record (JSON) of what it was built from and with.
A file whose record does not fit model and host is refused with the reason; none is ever rebuilt
behind the operator's back.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.inspection.engines import EngineError
from shopfloor.inspection.model import ModelPackage
from shopfloor.ros.paths import cache_folder

BUILD = "python -m shopfloor.inspection build"


@dataclass(frozen=True, slots=True)
class Built:
    """content: the file's bytes, of which the sha256 was verified.

    key: what it must fit, by name. report: how it was made and how good it is.
    """

    content: bytes
    key: Mapping[str, str]
    report: Mapping[str, Any]


def built_path(package: ModelPackage, file: str) -> Path:
    """Where `file` built from `package` lies: in the package where it was shipped, else in the
    cache folder.
    """
    shipped = package.path.parent / file
    if shipped.is_file():
        return shipped
    return cache_folder() / "engines" / package.name / package.version / file


def write_built(path: Path, built: Built) -> None:
    """Write both files; a reader sees the old pair, the new one, or a mismatch that it refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "key": dict(built.key),
        "sha256": hashlib.sha256(built.content).hexdigest(),
        "report": dict(built.report),
    }
    _replace(path, built.content)
    _replace(_record(path), (json.dumps(record, indent=1) + "\n").encode())


def read_built(path: Path, key: Mapping[str, str], command: str) -> Built:
    """The file, if it was built for `key`; raises EngineError with the reason and `command`."""
    record_path = _record(path)
    again = f"build it: {command}"
    if not path.is_file():
        raise EngineError(f"{path}: is not built yet; {again}")
    try:
        record = json.loads(record_path.read_bytes())
        content = path.read_bytes()
        given, sha256, report = record["key"], record["sha256"], record["report"]
        items = dict(given.items())
    except OSError as error:
        raise EngineError(f"{error.filename}: {error.strerror}; {again}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{record_path}: is no record of a build ({error}); {again}") from error
    for name, wanted in key.items():
        if items.get(name) != wanted:
            raise EngineError(
                f"{path}: was built for {name} {items.get(name)!r}, here it is {wanted!r}; {again}"
            )
    if hashlib.sha256(content).hexdigest() != sha256:
        raise EngineError(f"{path}: is damaged, its sha256 is not the recorded one; {again}")
    return Built(content, items, report)


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _replace(path: Path, content: bytes) -> None:
    """Write beside `path`, to the disk, and rename: no reader ever sees half a file."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
