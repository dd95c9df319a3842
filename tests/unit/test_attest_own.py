"""The attestations that we show: in files, and between two devices of the same person."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.attest.own import MAX_FILE, MAX_OWN_BYTES, OwnAttestation, read, store
from telepathy_e2e.errors import InvalidArgument

KEY = bytes(range(32))


def attestation(data: bytes = b"data", kind: str = "identity") -> OwnAttestation:
    return OwnAttestation(kind, "Somebody vouches", KEY, data)


def test_each_device_that_vouches_has_a_file_and_the_last_word_counts(tmp_path: Path) -> None:
    store(tmp_path, attestation(b"laptop"), b"\1" * 32)
    store(tmp_path, attestation(b"desk"), b"\2" * 32)
    store(tmp_path, attestation(b"laptop again"), b"\1" * 32)
    store(tmp_path, attestation(b"old", "openpgp"))
    store(tmp_path, attestation(b"new", "openpgp"))
    found = [each.data for each in read(tmp_path, KEY)]
    assert found == [b"laptop again", b"desk", b"new"]


def test_what_is_about_another_key_is_not_shown(tmp_path: Path) -> None:
    store(tmp_path, attestation(), b"\1" * 32)
    assert read(tmp_path, bytes(32)) == []


def test_text_between_devices_comes_out_as_it_went_in() -> None:
    given = attestation(b"x" * MAX_OWN_BYTES)
    text = given.to_json().encode()
    assert len(text) < MAX_FILE
    assert OwnAttestation.from_json(text) == given


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * (MAX_FILE - 1),
        b"1" + b"0" * MAX_FILE,
        json.dumps({"type": "identity", "summary": "", "identity": "00", "data": ""}).encode(),
        json.dumps({"type": 1, "summary": None, "identity": [], "data": {}}).encode(),
        attestation().to_json().replace('"identity"', '"Identity"', 1).encode(),
        attestation().to_json().replace("ZGF0YQ==", "ZGF0YQ").encode(),
        attestation().to_json().replace("Somebody", "S\\nb").encode(),
    ],
)
def test_other_text_is_none(text: bytes) -> None:
    with pytest.raises((ValueError, InvalidArgument)):
        OwnAttestation.from_json(text)


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: json.dumps(text).encode()))
def test_no_bytes_raise_anything_else(text: bytes) -> None:
    with pytest.raises((ValueError, InvalidArgument)):
        OwnAttestation.from_json(text)
