"""The files that parameters name go into a bag's metadata and come out as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopfloor.plant.plant_file import load_plant
from shopfloor.replay import files_of_plant
from shopfloor.replay.files_of_plant import named_files, pack, unpack
from shopfloor.ros.paths import FILES_VARIABLE, parameter_file, share_folder


def test_files_come_back_and_what_cannot_be_kept_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_of_plant, "MAX_BYTES", 1000)
    small, large, absent = (tmp_path / name for name in ("a.json", "b.json", "c.json"))
    small.write_text("{'µ': 1}\n", encoding="utf-8")
    large.write_text("x" * 1001, encoding="utf-8")
    text, problems = pack([str(small), str(large), str(absent)])
    assert len(problems) == 2
    assert str(large) in problems[0] and str(absent) in problems[1]
    small.write_text("of another day", encoding="utf-8")
    folder = tmp_path / "of the bag"
    unpack(text, folder)
    assert parameter_file(str(small)) == small
    monkeypatch.setenv(FILES_VARIABLE, str(folder))
    kept = parameter_file(str(small))
    assert kept.read_text(encoding="utf-8") == "{'µ': 1}\n"
    assert kept.name == "a.json", "formats are known by it"
    assert parameter_file(str(large)) == large, "what was not kept is read from the disk"
    unpack("", tmp_path / "none")
    for wrong in ("no base64!", text[:-8], "AAAA"):
        with pytest.raises(ValueError, match="kept with the bag cannot be read"):
            unpack(wrong, tmp_path / "wrong")


def test_the_demo_names_its_orders() -> None:
    plant = load_plant(share_folder() / "config" / "demo.yaml")
    orders = share_folder() / "config" / "demo_orders.json"
    assert orders in [parameter_file(name) for name in named_files(plant)] and orders.is_file()
