"""``make demo`` plays to its end, and notices when something is off."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.spy import STRETCH, Tap, entropy, stretches_on_the_wire
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory in which a socket's name is not too long for the kernel."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as directory:
        yield Path(directory)


@pytest.mark.timeout(900)
def test_the_demo_plays_to_its_end_and_leaves_nothing_behind(short_path: Path) -> None:
    if shutil.which("prosody") is None:
        pytest.skip("prosody is not installed")
    played = subprocess.run(
        [sys.executable, "-m", "demo", "--megabytes", "5"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(short_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "1000 of 1000 stretches of the file were on the wire: all of it." in played.stdout
    assert "0 of 1000 stretches of the file were on the wire: none." in played.stdout
    assert "Everything is as it should be." in played.stdout
    # The daemons leave when they see that their buses are gone; nobody waits for that.
    deadline = time.monotonic() + PATIENCE
    while list(short_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(short_path.iterdir())


def test_what_has_come_through_the_tap_is_on_record(tmp_path: Path) -> None:
    tap = Tap(tmp_path)
    port = tap.settings.split()[3].rstrip(",")
    said = b"the last few bytes"
    with socket.create_server(("127.0.0.1", 0)) as beyond:
        tap.map_file.write_text(f"{port} 127.0.0.1 {beyond.getsockname()[1]}\n")
        with socket.create_connection(("127.0.0.1", int(port))) as near:
            far, _ = beyond.accept()
            with far:
                near.sendall(said)
                assert far.recv(len(said)) == said
                assert said in [each.read_bytes() for each in tap.recordings()]
    tap.close()


def test_the_search_finds_a_file_wherever_it_lies_on_the_wire(tmp_path: Path) -> None:
    file, wire = tmp_path / "file", tmp_path / "wire"
    content = os.urandom(100_000)
    file.write_bytes(content)
    for shift in (0, 1, 31, 32, 33):
        wire.write_bytes(bytes(shift) + content + bytes(7))
        assert stretches_on_the_wire(file, [wire], 200) == (200, 200)


def test_the_search_finds_nothing_in_noise(tmp_path: Path) -> None:
    file, wire = tmp_path / "file", tmp_path / "wire"
    file.write_bytes(os.urandom(100_000))
    wire.write_bytes(os.urandom(100_000))
    assert stretches_on_the_wire(file, [wire], 200) == (0, 200)


def test_a_leak_of_a_tenth_of_the_file_is_found(tmp_path: Path) -> None:
    file, wire = tmp_path / "file", tmp_path / "wire"
    content = os.urandom(1_000_000)
    file.write_bytes(content)
    wire.write_bytes(os.urandom(900_000) + content[:100_000])
    found, sought = stretches_on_the_wire(file, [wire], 1000)
    assert 0 < found < sought


def test_a_file_that_is_too_short_to_be_looked_for_proves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(STRETCH - 1))
    assert stretches_on_the_wire(file, [file], 10) == (0, 0)


def test_entropy_tells_text_from_noise(tmp_path: Path) -> None:
    text, noise = tmp_path / "text", tmp_path / "noise"
    text.write_text(os.urandom(100_000).hex())
    noise.write_bytes(os.urandom(1_000_000))
    assert 3.9 < entropy(text) <= 4.0
    assert entropy(noise) > 7.99
