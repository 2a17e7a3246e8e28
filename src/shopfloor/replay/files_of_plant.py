"""The files that parameters name, kept with a bag: a replay must not read what they are today."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from pathlib import Path

from shopfloor.plant.nodes import load as load_reference
from shopfloor.plant.plant_file import Plant
from shopfloor.replay.plant_of_bag import DRIVEN
from shopfloor.ros.parameters import specs
from shopfloor.ros.paths import kept_file, parameter_file

MAX_BYTES = 2_000_000
"""Of one file; a larger one is not kept."""


def named_files(plant: Plant) -> list[str]:
    """What the parameters `*_file` of the nodes that a replay drives name, there or not."""
    found = set()
    for node in plant.nodes.values():
        if node.type in DRIVEN:
            names = [n for n in specs(load_reference(node.row.parameters)) if n.endswith("_file")]
            found |= {str(node.value(name)) for name in names if node.value(name)}
    return sorted(found)


def pack(names: Iterable[str]) -> tuple[str, list[str]]:
    """The files as one text for the bag's metadata, and which are not in it and why.

    Compressed: readers of metadata.yaml take a second for 100 kB of it.
    """
    kept: dict[str, str] = {}
    problems = []
    for name in names:
        path = parameter_file(name)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"{path.stat().st_size} bytes; allowed: {MAX_BYTES}")
            kept[name] = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            problems.append(f"{path} is not kept with the bag: {error}")
    data = zlib.compress(json.dumps(kept, sort_keys=True).encode())
    return base64.b64encode(data).decode() if kept else "", problems


def unpack(text: str, folder: Path) -> None:
    """Write what `pack` kept to `folder`, where `parameter_file` finds it.

    Raises ValueError where the text is none of its.
    """
    try:
        data = json.loads(zlib.decompress(base64.b64decode(text, validate=True))) if text else {}
    except (ValueError, zlib.error) as error:
        raise ValueError(f"the files kept with the bag cannot be read: {error}") from None
    for name, content in data.items():
        path = kept_file(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
