"""Keys out of a TLS session."""

from __future__ import annotations

import base64

import pytest

from telepathy_e2e.role import Role
from telepathy_e2e.xtls import exporter
from tests.unit.xtls_support import VECTORS


def leaf(role: str) -> bytes:
    return base64.b64decode(VECTORS["peers"][role]["session_certificate_base64"])


def test_the_context_of_the_vectors_comes_out() -> None:
    vector = VECTORS["exporter_context"]
    context = exporter.context(
        vector["sid"],
        vector["initiator"],
        vector["responder"],
        leaf("initiator"),
        leaf("responder"),
    )
    assert context.hex() == vector["context"]


def test_each_part_of_the_context_counts() -> None:
    parts: list[tuple[str, str, str, bytes, bytes]] = [
        ("s", "i", "r", b"1", b"2"),
        ("t", "i", "r", b"1", b"2"),
        ("s", "j", "r", b"1", b"2"),
        ("s", "i", "q", b"1", b"2"),
        ("s", "i", "r", b"3", b"2"),
        ("s", "i", "r", b"1", b"3"),
        ("s", "r", "i", b"2", b"1"),
        ("si", "", "r", b"1", b"2"),
    ]
    assert len({exporter.context(*part) for part in parts}) == len(parts)


def test_the_vectors_are_split() -> None:
    vector = VECTORS["exporter"]
    assert exporter.LABEL.decode() == vector["label"]
    assert vector["length"] == exporter.LENGTH
    keys = exporter.split(bytes.fromhex(vector["output"]))
    assert keys.sealing(Role.INITIATOR).hex() == vector["KI"]
    assert keys.sealing(Role.RESPONDER).hex() == vector["KR"]
    assert keys.binding.hex() == vector["B"]


def test_another_length_is_not_split() -> None:
    with pytest.raises(ValueError, match="96"):
        exporter.split(bytes(95))


def test_keys_do_not_show_themselves() -> None:
    assert "00" not in repr(exporter.split(bytes(96)))
    assert "\\x" not in repr(exporter.split(bytes(96)))
