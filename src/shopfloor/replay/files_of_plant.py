"""The files that parameters name, kept with a bag: a replay must not read what they are today."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

from shopfloor.plant.nodes import load as load_reference
from shopfloor.plant.plant_file import Plant
from shopfloor.replay.plant_of_bag import DRIVEN
from shopfloor.ros.parameters import specs
from shopfloor.ros.paths import share_folder

MAX_BYTES = 2_000_000
"""Of one file; a larger one is not kept."""

Files = Mapping[str, Mapping[str, Path]]
"""By the key of a node and the name of its parameter."""


def named_files(plant: Plant) -> dict[str, dict[str, Path]]:
    """What the parameters `*_file` of the nodes name that a replay drives, there or not."""
    found: dict[str, dict[str, Path]] = {}
    for node in plant.nodes.values():
        if node.type in DRIVEN:
            for name in specs(load_reference(node.row.parameters)):
                if name.endswith("_file") and node.value(name):
                    found.setdefault(node.key, {})[name] = _path(str(node.value(name)))
    return found


def _path(name: str) -> Path:
    """As nodes find it: as given, or a file of the package's config folder."""
    path = Path(name)
    return path if path.is_absolute() or path.exists() else share_folder() / "config" / path


def pack(files: Files) -> tuple[str, list[str]]:
    """The files as one text for the bag's metadata, and which are not in it and why.

    Compressed: readers of metadata.yaml take a second for 100 kB of it.
    """
    kept: dict[str, dict[str, list[str]]] = {}
    problems = []
    for node, paths in files.items():
        for name, path in paths.items():
            try:
                if path.stat().st_size > MAX_BYTES:
                    raise ValueError(f"has {path.stat().st_size} bytes; allowed: {MAX_BYTES}")
                text = path.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                problems.append(f"{name} of {node} is not kept with the bag: {path}: {error}")
            else:
                kept.setdefault(node, {})[name] = [path.name, text]
    data = zlib.compress(json.dumps(kept, sort_keys=True).encode())
    return base64.b64encode(data).decode() if kept else "", problems


def unpack(text: str, folder: Path) -> dict[str, dict[str, Path]]:
    """Write what `pack` kept below `folder`. Raises ValueError where the text is none of its."""
    try:
        data = json.loads(zlib.decompress(base64.b64decode(text, validate=True))) if text else {}
    except (ValueError, zlib.error) as error:
        raise ValueError(f"the files kept with the bag cannot be read: {error}") from None
    found: dict[str, dict[str, Path]] = {}
    for node, files in data.items():
        for number, (parameter, (name, content)) in enumerate(sorted(files.items())):
            path = folder / node.replace("/", ".") / str(number) / Path(name).name
            path.parent.mkdir(parents=True)
            path.write_text(content, encoding="utf-8")
            found.setdefault(node, {})[parameter] = path
    return found
