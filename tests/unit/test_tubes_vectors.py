"""The stream of a tube, byte for byte: vectors, and an encoder that shares no line with ours."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle.tubes import Kind as TubeKind
from telepathy_e2e.jingle.tubes import Tube, Value, build, parse
from telepathy_e2e.role import Role
from telepathy_e2e.tubes.events import Reason
from telepathy_e2e.tubes.mux import Multiplexer

from .jingle_support import over_the_wire, xml

HERE = pathlib.Path(__file__).parents
VECTORS: dict[str, Any] = json.loads((HERE[1] / "vectors" / "tubes.json").read_text())
SPEC = (HERE[2] / "spec" / "tubes.md").read_text()


def be(number: int, size: int) -> str:
    """Hex, big-endian, by hand."""
    return "".join(f"{number >> 8 * place & 255:02x}" for place in reversed(range(size)))


def encode(step: dict[str, Any]) -> str:
    """Hex of a preface or frame, from the table in the document alone."""
    if step["what"] == "preface":
        return (
            b"e2etube0".hex()
            + be(step["connections"], 4)
            + be(step["window"], 4)
            + (be(step["received"], 8))
        )
    kinds = ["OPEN", "DATA", "WINDOW", "EOF", "RESET", "CLOSE", "ACK", "PING", "PONG"]
    kind = be(kinds.index(step["what"]), 1)
    if "number" in step:
        return kind + be(step["number"], 8)
    payload: str = step.get("hex", "")
    n = len(payload) // 2 if "hex" in step else step.get("n", 0)
    return kind + be(step["id"], 4) + be(n, 4) + payload


def play(mux: Multiplexer, step: dict[str, Any]) -> None:
    """What a program does so that this is sent."""
    match step["what"]:
        case "OPEN":
            assert mux.open(bytes.fromhex(step["hex"])) == step["id"]
        case "DATA":
            data = bytes.fromhex(step["hex"])
            assert mux.write(step["id"], data) == len(data)
        case "EOF":
            mux.eof(step["id"])
        case "RESET":
            mux.reset(step["id"], Reason(step["n"]))
        case "CLOSE":
            mux.close()
        case "PING":
            mux.ping(step["number"])
        case _:  # the preface, WINDOW, ACK, PONG and some CLOSE come by themselves
            return


@pytest.mark.parametrize("vector", VECTORS["streams"], ids=lambda each: each["name"])
def test_both_sides_send_the_bytes_of_the_vectors(vector: dict[str, Any]) -> None:
    ends = {role: Multiplexer(role) for role in Role}
    for end in ends.values():
        end.road_up()
    for step in vector["steps"]:
        sender = Role(step["from"])
        assert step["bytes"] == encode(step)
        if not step.get("answer"):
            play(ends[sender], step)
        sent = ends[sender].data_to_send()
        assert sent.hex() == step["bytes"]
        events = ends[sender.other].receive_data(sent)
        assert [type(each).__name__ for each in events] == step["events"]
    for end in ends.values():
        assert end.data_to_send() == b""


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda each: each["name"])
def test_what_the_vectors_call_wrong_is_refused(vector: dict[str, Any]) -> None:
    mux = Multiplexer(Role(vector["to"]))
    mux.road_up()
    with pytest.raises(PeerError):
        mux.receive_data(bytes.fromhex(vector["bytes"]))


@pytest.mark.parametrize(
    "vector", VECTORS["descriptions"], ids=lambda each: each["tube"]["service"]
)
def test_descriptions_are_those_of_the_vectors(vector: dict[str, Any]) -> None:
    tube = Tube(
        TubeKind(vector["tube"]["type"]),
        vector["tube"]["service"],
        {
            name: Value(kind, bytes.fromhex(value) if kind == "ay" else value)
            for name, (kind, value) in vector["tube"]["parameters"].items()
        },
    )
    assert parse(xml(vector["xml"])) == tube
    assert parse(over_the_wire(build(tube))) == tube


def test_the_example_of_the_document_is_the_vector() -> None:
    block = SPEC.split("Example, sent by the responder")[1].split("```")[1]
    steps = next(each for each in VECTORS["streams"] if each["name"] == "half-closed")["steps"]
    sent = [each["bytes"] for each in steps if each["from"] == "responder"]
    assert "".join(block.split()) == "".join(sent[:4])
