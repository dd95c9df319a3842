import hashlib
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.cli import files
from telepathy_e2e.cli.exits import Exit, UsageError
from telepathy_e2e.cli.files import (
    MAX_NAME_BYTES,
    PartialFile,
    numbered,
    open_source,
    safe_name,
    sha256_of,
)


def parts(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name.endswith(files.PARTIAL_ENDING)]


@given(st.text())
def test_every_name_becomes_one_plain_component(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert safe not in (".", "..")
    assert "/" not in safe
    assert "\\" not in safe
    assert not safe.startswith((".", "-", "~", " "))
    assert len(safe.encode()) <= MAX_NAME_BYTES
    assert all(unicodedata.category(c)[0] != "C" for c in safe)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("notes.txt", "notes.txt"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/", "file"),
        ("..", "file"),
        (".bashrc", "bashrc"),
        ("-rf", "_-rf"),
        ("a\0b\nc", "a_b_c"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("file:stream", "file_stream"),
        ("Grüße.pdf", "Grüße.pdf"),
        ("trailing. ", "trailing"),
    ],
)
def test_dangerous_names_lose_their_danger(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_long_name_keeps_its_extension() -> None:
    safe = safe_name("ü" * 300 + ".tar.gz")
    assert safe.endswith(".gz")
    assert len(safe.encode()) <= MAX_NAME_BYTES


def test_a_name_at_the_limit_stays_whole() -> None:
    assert safe_name("a" * MAX_NAME_BYTES) == "a" * MAX_NAME_BYTES
    assert safe_name("a" * (MAX_NAME_BYTES + 1)) == "a" * MAX_NAME_BYTES


def test_numbers_go_before_the_extension() -> None:
    assert numbered("a.txt", 0) == "a.txt"
    assert numbered("a.txt", 2) == "a (2).txt"
    assert numbered("Makefile", 1) == "Makefile (1)"


def test_a_finished_file_gets_its_name_and_leaves_no_part(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "a.txt", "key", 5)
    partial.write(memoryview(b"hello"))
    target = partial.finish(modified=1_000_000)
    partial.close()
    assert target.read_bytes() == b"hello"
    assert target.stat().st_mtime == 1_000_000
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    partial = PartialFile(tmp_path, "a.txt", "", 1)
    partial.write(memoryview(b"x"))
    assert partial.finish().name == "a (1).txt"
    partial.close()
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_a_dangling_link_of_that_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "elsewhere")
    partial = PartialFile(tmp_path, "a.txt", "", 1)
    partial.write(memoryview(b"x"))
    assert partial.finish().name == "a (1).txt"
    partial.close()
    assert not (tmp_path / "elsewhere").exists()


def test_without_hard_links_an_existing_file_is_still_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a.txt").write_text("mine")
    partial = PartialFile(tmp_path, "a.txt", "", 1)
    partial.write(memoryview(b"x"))
    target = partial.finish()
    partial.close()
    assert target.name == "a (1).txt"
    assert target.read_bytes() == b"x"
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_too_many_files_of_one_name_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_COPIES", 1)
    for name in ("a", "a (1)"):
        (tmp_path / name).touch()
    partial = PartialFile(tmp_path, "a", "", 1)
    with pytest.raises(Exit, match="tidy up"):
        partial.finish()
    partial.close()
    assert not parts(tmp_path)


def test_an_interrupted_file_is_resumed_by_its_key(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "a", "key", 10)
    partial.write(memoryview(b"hello"))
    partial.close()
    again = PartialFile(tmp_path, "a", "key", 10)
    assert again.offset == 5
    again.write(memoryview(b"world"))
    assert again.finish().read_bytes() == b"helloworld"
    again.close()


def test_another_key_starts_anew(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "a", "alice", 10)
    partial.write(memoryview(b"hello"))
    partial.close()
    other = PartialFile(tmp_path, "a", "mallory", 10)
    assert other.offset == 0
    other.close()
    assert len(parts(tmp_path)) == 1


def test_without_a_hash_nothing_is_kept(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "a", "", 10)
    partial.write(memoryview(b"hello"))
    partial.close()
    assert not list(tmp_path.iterdir())


def test_a_discarded_part_is_gone(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "a", "key", 10)
    partial.write(memoryview(b"hello"))
    partial.discard()
    partial.close()
    assert not list(tmp_path.iterdir())


def test_a_sender_that_cannot_resume_starts_where_it_says(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "a", "key", 5)
    partial.write(memoryview(b"hexxx"))
    partial.start_at(2)
    partial.write(memoryview(b"llo"))
    assert partial.finish().read_bytes() == b"hello"
    partial.close()


def test_an_offset_beyond_what_is_there_leaves_no_hole(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "a", "key", 5)
    with pytest.raises(Exit, match="hole"):
        partial.start_at(1)
    partial.close()


def test_a_part_that_is_longer_than_the_file_starts_anew(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "a", "key", 10)
    partial.write(memoryview(b"0123456789"))
    partial.close()
    again = PartialFile(tmp_path, "a", "key", 5)
    assert again.offset == 0
    again.close()


def test_a_link_in_place_of_the_part_is_refused(tmp_path: Path) -> None:
    probe = PartialFile(tmp_path, "a", "key", 10)
    probe.write(memoryview(b"x"))
    probe.close()
    (part,) = parts(tmp_path)
    part.unlink()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    part.symlink_to(victim)
    with pytest.raises(Exit):
        PartialFile(tmp_path, "a", "key", 10)
    part.unlink()
    part.hardlink_to(victim)
    with pytest.raises(Exit, match="not a partial file of yours"):
        PartialFile(tmp_path, "a", "key", 10)
    assert victim.read_text() == "mine"


def test_what_happens_to_have_the_name_of_a_new_part_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    there = tmp_path / f".a.{bytes(8).hex()}{files.PARTIAL_ENDING}"
    there.write_text("mine")
    with pytest.raises(Exit, match="cannot be written to"):
        PartialFile(tmp_path, "a", "", 10)
    assert there.read_text() == "mine"


def test_two_receivers_do_not_write_one_part(tmp_path: Path) -> None:
    first = PartialFile(tmp_path, "a", "key", 10)
    with pytest.raises(Exit, match="being received already"):
        PartialFile(tmp_path, "a", "key", 10)
    first.close()


def test_a_part_is_private_until_it_is_done(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "a", "key", 10)
    assert os.fstat(partial.fd).st_mode & 0o777 == 0o600
    partial.close()


def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "a", "key", 10)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, partial.fd)
    os.close(full)
    with pytest.raises(Exit, match="cannot be written"):
        partial.write(memoryview(b"x"))
    partial.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Exit, match="--dir"):
        PartialFile(tmp_path, "a", "", 1)
    tmp_path.chmod(0o700)


def test_only_regular_files_are_sent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        open_source(tmp_path / "missing")
    with pytest.raises(UsageError, match="not a regular file"):
        open_source(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="not a regular file"):
        open_source(pipe)


async def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"hello world")
    source = open_source(path)
    whole = await sha256_of(source.fd)
    start = await sha256_of(source.fd, 5)
    source.close()
    assert whole.hexdigest() == hashlib.sha256(b"hello world").hexdigest()
    assert start.hexdigest() == hashlib.sha256(b"hello").hexdigest()
