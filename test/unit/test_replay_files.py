"""The files that parameters name go into a bag's metadata and come out as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopfloor.plant.plant_file import load_plant
from shopfloor.replay import files_of_plant
from shopfloor.replay.files_of_plant import named_files, pack, unpack
from shopfloor.ros.paths import share_folder


def test_files_come_back_and_what_cannot_be_kept_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_of_plant, "MAX_BYTES", 1000)
    small, large = tmp_path / "a.json", tmp_path / "b.json"
    small.write_text("{'µ': 1}\n", encoding="utf-8")
    large.write_text("x" * 1001, encoding="utf-8")
    absent = tmp_path / "c.json"
    text, problems = pack(
        {"cell/one": {"p_file": small, "q_file": large}, "cell/two": {"p_file": absent}}
    )
    assert [str(large) in problems[0], str(absent) in problems[1]] == [True, True]
    small.unlink()
    found = unpack(text, tmp_path / "of the bag")
    assert {node: set(files) for node, files in found.items()} == {"cell/one": {"p_file"}}
    assert found["cell/one"]["p_file"].read_text(encoding="utf-8") == "{'µ': 1}\n"
    assert found["cell/one"]["p_file"].name == "a.json", "formats are known by it"
    assert unpack("", tmp_path) == {}
    for wrong in ("no base64!", text[:-8], "AAAA"):
        with pytest.raises(ValueError, match="kept with the bag cannot be read"):
            unpack(wrong, tmp_path / "wrong")


def test_the_demo_names_its_orders() -> None:
    plant = load_plant(share_folder() / "config" / "demo.yaml")
    (scheduler,) = [node.key for node in plant.nodes.values() if node.type == "scheduler"]
    path = named_files(plant)[scheduler]["problem_file"]
    assert path == share_folder() / "config" / "demo_orders.json" and path.is_file()
