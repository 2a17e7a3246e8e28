"""Events of services, feedback of actions: their types are ROS's own, and a bag describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from shopfloor.replay.bag import BagWriter, Topic, typestore
from shopfloor.replay.hidden_types import idl, types_of_idl
from shopfloor.replay.repair import repair
from shopfloor.replay.topics import row_of
from shopfloor.ros.interfaces import HIDDEN_TOPICS
from shopfloor.ros.paths import message_folder

ACT = """\
# --- is no end of the request
uint8 GO=1
int8 BACK=-1   # a comment
Inner[<=2] inners
string<=8 name
string<=4[<=3] names
float64[3] place
bool[] flags
byte code
---
"""
WORK = "bool unused\n---\n---   \nfloat32 progress\nInner inner\n"


@pytest.fixture
def types(tmp_path: Path) -> Any:
    package = tmp_path / "small"
    for kind, name, text in (
        ("msg", "Inner.msg", "string WHAT='it'\nuint16 n\n"),
        ("srv", "Act.srv", ACT),
        ("action", "Work.action", WORK),
    ):
        (package / kind).mkdir(parents=True)
        (package / kind / name).write_text(text)
    return typestore([package / "msg"])


def test_the_types_are_the_ones_that_ros_makes() -> None:
    try:
        folders = [message_folder("shopfloor_msgs"), message_folder("std_srvs", "srv")]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    built = typestore(folders)
    hashes = {
        row["type_name"]: row["hash_string"]
        for folder in folders
        for path in folder.parent.glob("*/*.json")
        for row in json.loads(path.read_text("utf-8"))["type_hashes"]
    }
    if not hashes:
        pytest.skip("the types were built without their descriptions")
    for row in HIDDEN_TOPICS:
        if "/msg/" not in row.type:
            assert built.hash_rihs01(row.type) == hashes[row.type], row.type


@pytest.mark.parametrize("name", ["small/srv/Act_Event", "small/action/Work_FeedbackMessage"])
def test_the_schema_says_all_of_the_type(types: Any, name: str) -> None:
    text = idl(types, name)
    assert text.startswith("=" * 80 + f"\nIDL: {name}\nmodule small {{")
    again = types_of_idl(text)
    assert next(iter(again)) == name and len(again) > 3
    for part, definition in again.items():
        assert types.fielddefs[part] == definition
    alone = get_typestore(Stores.EMPTY)
    alone.register(again)
    assert alone.hash_rihs01(name) == types.hash_rihs01(name)


def event(types: Any) -> Any:
    def new(name: str, *values: Any) -> Any:
        return types.types[name](*values)

    inner = new("small/msg/Inner", 7)
    place, flags = np.array([1.0, 2.0, 3.0]), np.array([True, False])
    request = new("small/srv/Act_Request", [inner, inner], "name", ["a", "b"], place, flags, 100)
    stamp = new("builtin_interfaces/msg/Time", 5, 6)
    gid = np.arange(16, dtype=np.uint8)
    info = new("service_msgs/msg/ServiceEventInfo", 1, stamp, gid, 42)
    return new("small/srv/Act_Event", info, [request], [new("small/srv/Act_Response", 0)])


def test_a_bag_describes_them_and_so_does_its_repair(types: Any, tmp_path: Path) -> None:
    topic = Topic("/act/_service_event", "small/srv/Act_Event")
    data = bytes(types.serialize_cdr(event(types), topic.type))
    other = Topic("/inner", "small/msg/Inner")
    bag = BagWriter(tmp_path / "bag", types)
    for n in range(3):
        assert bag.put(topic, n, data)
        assert bag.put(other, n, bytes(types.serialize_cdr(types.types[other.type](n), other.type)))
    bag.close()
    assert not bag.error
    repair(tmp_path / "bag", tmp_path / "whole")
    for path in (tmp_path / "bag", tmp_path / "whole"):
        with AnyReader([path]) as reader:
            read = [(c.topic, reader.deserialize(d, c.msgtype)) for c, _, d in reader.messages()]
        assert [inner.n for name, inner in read if name == other.name] == [0, 1, 2]
        said = [message for name, message in read if name == topic.name]
        assert len(said) == 3
        assert said[0].info.sequence_number == 42 and said[0].info.client_gid[15] == 15
        (request,) = said[0].request
        assert [inner.n for inner in request.inners] == [7, 7] and request.inners[0].WHAT == "it"
        assert request.names == ["a", "b"] and request.place.tolist() == [1.0, 2.0, 3.0]
        assert request.flags.tolist() == [True, False] and request.code == 100
        assert (request.GO, request.BACK, len(said[0].response)) == (1, -1, 1)


def test_no_replay_takes_them_for_inputs_or_outputs() -> None:
    assert len({row.name for row in HIDDEN_TOPICS}) == len(HIDDEN_TOPICS) > 10
    for row in HIDDEN_TOPICS:
        assert row_of("/cell_1/" + row.resolve(**dict.fromkeys(row.placeholders, "thing"))) is None
