"""What comes and goes through descriptors has a bound in size and in time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from telepathy_e2e.agent import descriptors
from telepathy_e2e.agent.descriptors import read_all, write_all
from telepathy_e2e.errors import InvalidArgument, NotAvailable
from tests.support.agent import pipe


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "PATIENCE", 0.05)


@pytest.mark.parametrize("size", [0, 1, 1024, 60_000])
async def test_all_that_comes_until_the_end_is_read(size: int) -> None:
    data = os.urandom(size)
    reading = pipe(data)
    assert await read_all(reading, size) == data
    os.close(reading)


async def test_one_byte_more_is_refused() -> None:
    reading = pipe(b"x" * 1025)
    with pytest.raises(InvalidArgument):
        await read_all(reading, 1024)
    os.close(reading)


async def test_files_and_sockets_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    with (tmp_path / "file").open("rb") as file:
        assert await read_all(file.fileno(), 10) == b"data"
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"data")
        one.shutdown(socket.SHUT_WR)
        assert await read_all(other.fileno(), 10) == b"data"


@pytest.mark.usefixtures("impatient")
async def test_an_end_that_never_comes_is_not_waited_for(ends: tuple[int, int]) -> None:
    os.write(ends[1], b"half of")
    with pytest.raises(NotAvailable):
        await read_all(ends[0], 100)


@pytest.mark.usefixtures("impatient")
async def test_somebody_who_never_reads_is_not_waited_for(ends: tuple[int, int]) -> None:
    with pytest.raises(NotAvailable):
        await write_all(ends[1], bytes(1 << 20))


async def test_everything_is_written(ends: tuple[int, int], tmp_path: Path) -> None:
    await write_all(ends[1], b"data")
    assert os.read(ends[0], 10) == b"data"
    with (tmp_path / "file").open("wb") as file:
        await write_all(file.fileno(), b"data")
    assert (tmp_path / "file").read_bytes() == b"data"


async def test_a_descriptor_for_the_other_direction_is_refused(ends: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument):
        await read_all(ends[1], 10)
    with pytest.raises(InvalidArgument):
        await write_all(ends[0], b"data")


async def test_somebody_who_went_away_is_an_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(InvalidArgument):
        await write_all(writing, b"data")
    os.close(writing)
