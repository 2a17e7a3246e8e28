"""Where the files of config/ lie, and plant files by name."""

from __future__ import annotations

from pathlib import Path

from shopfloor.ros.paths import share_folder


def config_folder() -> Path:
    """config/ with the plant files, their schema and the Fast DDS profile."""
    return share_folder() / "config"


def find_plant_file(name: str) -> Path:
    """A plant file by path, or by its name in config/ (with or without `.yaml`).

    Raises FileNotFoundError that lists the names there.
    """
    here = Path(name).expanduser()
    if here.is_file():
        return here
    folder = config_folder()
    shipped = folder / (name if name.endswith(".yaml") else f"{name}.yaml")
    if "/" not in name and shipped.is_file():
        return shipped
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise FileNotFoundError(f"no plant file '{name}': no such path, and {folder} has {known}")
