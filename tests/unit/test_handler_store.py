"""The memory on disk: a killed writer leaves the old or the new, and damage is never nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path

import pytest

from telepathy_e2e.handler import store as module
from telepathy_e2e.handler.book import Book
from telepathy_e2e.handler.pins import InClear, Pin, Settings, UnknownKey
from telepathy_e2e.handler.store import (
    MAX_SETTINGS,
    Store,
    StoreError,
    directory,
    read_settings,
    settings_file,
)

ROOT = Path(__file__).parents[2]
DAY = date(2026, 1, 1)


def pin(name: str, *methods: str) -> Pin:
    return Pin("alice@x", f"{name}@x", ":".join(["AA"] * 32), methods or ("sas",), DAY, DAY)


def add(store: Store, name: str) -> None:
    store.update(lambda book: book.put(pin(name)))


def names(store: Store) -> set[str]:
    return {each.contact for each in store.read()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


# What every child below does: one more pin in the memory that the first argument names.
CHILD = """
import os, signal, sys
from datetime import date
from pathlib import Path
from telepathy_e2e.handler import book, store as module
from telepathy_e2e.handler.pins import Pin
store = module.Store(Path(sys.argv[1]))
def add(name):
    new = Pin("alice@x", name + "@x", ":".join(["AA"] * 32), ("sas",), date.today(), date.today())
    store.update(lambda book: book.put(new))
"""


def child(store: Store, code: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + code, str(store.path.parent), *words],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def output(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate()
    return out.split()


# -- reading and writing -------------------------------------------------------------------------


def test_what_is_written_is_there_for_everybody(store: Store) -> None:
    assert names(store) == set()
    assert not store.path.parent.exists()
    add(store, "bob")
    assert names(store) == names(Store(store.path.parent)) == {"bob@x"}
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700


def test_what_another_writes_is_seen_and_what_nobody_writes_is_not_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "bob")
    first = store.read()
    add(Store(store.path.parent), "carol")
    assert names(store) == {"bob@x", "carol@x"}
    assert len(first) == 1
    monkeypatch.setattr(Store, "_load", lambda _: pytest.fail("read again"))
    assert names(store) == {"bob@x", "carol@x"}


def test_a_memory_that_goes_away_is_not_remembered(store: Store) -> None:
    add(store, "bob")
    store.read()
    store.path.unlink()
    assert names(store) == set()


def test_a_change_that_fails_changes_nothing(store: Store) -> None:
    add(store, "bob")
    before = store.path.read_bytes()

    def change(book: Book) -> None:
        book.put(pin("carol"))
        raise KeyError

    with pytest.raises(KeyError):
        store.update(change)
    assert store.path.read_bytes() == before
    assert names(store) == {"bob@x"}
    add(store, "carol")  # and the lock is free


def test_what_changes_nothing_writes_nothing(store: Store) -> None:
    add(store, "bob")
    before = store.path.stat()
    add(store, "bob")
    assert store.path.stat() == before


# -- damage --------------------------------------------------------------------------------------


def refused(store: Store, words: str) -> None:
    for _ in range(2):
        with pytest.raises(StoreError, match=words):
            store.read()
        with pytest.raises(StoreError, match=words):
            add(store, "carol")


@pytest.mark.parametrize("damage", [b"", b"\0" * 200, b"SQLite format 3\0"])
def test_a_damaged_memory_is_an_error_and_stays_as_it_is(store: Store, damage: bytes) -> None:
    add(store, "bob")
    store.read()
    store.path.write_bytes(damage)
    refused(store, "is damaged.*Put a copy in its place")
    assert store.path.read_bytes() == damage


def test_a_copy_in_its_place_heals_it(store: Store) -> None:
    add(store, "bob")
    good = store.path.read_bytes()
    store.path.write_bytes(good[:-1])
    refused(store, "is damaged")
    store.path.write_bytes(good)
    assert names(store) == {"bob@x"}


def test_an_unreadable_memory_is_an_error_and_stays_as_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "bob")
    before = store.path.read_bytes()
    real = os.open

    # Not by its mode: root may read everything.
    def denied(path: object, *more: int) -> int:
        if path == store.path:
            raise PermissionError(13, "Permission denied", path)
        return real(path, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        refused(store, "Permission denied")
    assert store.path.read_bytes() == before


def test_a_disk_that_fails_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "bob")

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(StoreError, match="Input/output error"):
            add(store, "carol")
    assert names(store) == {"bob@x"}
    add(store, "carol")
    assert names(store) == {"bob@x", "carol@x"}


def test_a_directory_in_its_place_is_an_error(store: Store) -> None:
    store.path.mkdir(parents=True)
    refused(store, "not a regular file")
    assert store.path.is_dir()


def test_a_pipe_in_its_place_is_an_error_and_nobody_waits_for_it(store: Store) -> None:
    store.path.parent.mkdir()
    os.mkfifo(store.path)
    refused(store, "not a regular file")


def test_what_cannot_be_read_leaves_no_descriptor_open(store: Store) -> None:
    store.path.mkdir(parents=True)
    refused(store, "not a regular file")
    before = len(os.listdir("/proc/self/fd"))
    refused(store, "not a regular file")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_an_error_wherever_it_leads(store: Store, tmp_path: Path, there: bool) -> None:
    store.path.parent.mkdir()
    if there:
        other = Store(tmp_path / "other")
        add(other, "bob")
    store.path.symlink_to(tmp_path / "other" / "pins")
    refused(store, "symbolic link")
    assert store.path.is_symlink()
    if there:
        assert names(other) == {"bob@x"}


def test_a_directory_may_be_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    store.path.parent.symlink_to(tmp_path / "elsewhere")
    add(store, "bob")
    assert names(Store(tmp_path / "elsewhere")) == {"bob@x"}


def test_a_file_where_the_directory_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    refused(Store(tmp_path / "data"), "pins: ")


@pytest.mark.parametrize("name", ["pins.new", "pins.lock"])
def test_links_in_place_of_the_other_files_are_not_followed(
    store: Store, tmp_path: Path, name: str
) -> None:
    store.path.parent.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (store.path.parent / name).symlink_to(victim)
    if name == "pins.lock":
        with pytest.raises(StoreError):
            add(store, "bob")
    else:
        add(store, "bob")
        assert names(store) == {"bob@x"}
    assert victim.read_text() == "mine"


def test_a_memory_that_would_become_too_large_is_not_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "bob")
    monkeypatch.setattr(module, "MAX_BYTES", store.path.stat().st_size + 10)
    with pytest.raises(StoreError, match="too large"):
        add(store, "carol")
    assert names(store) == {"bob@x"}


# -- kill -9 --------------------------------------------------------------------------------------

# Each child of this one is killed at its n-th instruction in store.py, until one gets through.
AT_INSTRUCTIONS = """
limit = int(sys.argv[2])
def trace_for(left):
    def trace(frame, event, _):
        nonlocal left
        if frame.f_code.co_filename != module.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    return trace
add("bob")
old = store.path.read_bytes()
for number in range(limit):
    child = os.fork()
    if not child:
        sys.settrace(trace_for(number))
        add("carol")
        sys.settrace(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found = [pin.contact for pin in module.Store(Path(sys.argv[1])).read()]
    print("killed" if os.WIFSIGNALED(status) else "done", len(found))
    if not os.WIFSIGNALED(status):
        break
    if len(found) == 2:
        store.path.write_bytes(old)
"""


def test_killed_at_any_instruction_it_leaves_the_old_or_the_new(store: Store) -> None:
    store.path.parent.mkdir()
    said = output(child(store, AT_INSTRUCTIONS, "3000"))
    ends, counts = said[::2], said[1::2]
    assert ends[-1] == "done"
    assert set(ends[:-1]) == {"killed"}
    assert len(ends) > 200
    assert set(counts) == {"1", "2"}
    # Once it is renamed, it stays.
    assert counts == sorted(counts)


# Each child may write so many bytes to a file; the kernel kills it at the next one.
AT_BYTES = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
add("bob")
size = store.path.stat().st_size
for number in range(0, 3 * size, 7):
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
        add("carol")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("killed" if os.WIFSIGNALED(status) else "done", len(module.Store(store.path.parent).read()))
"""  # noqa: E501


def test_killed_in_the_middle_of_writing_it_leaves_the_old(store: Store) -> None:
    said = output(child(store, AT_BYTES))
    pairs = list(zip(said[::2], said[1::2], strict=True))
    assert set(pairs) == {("killed", "1"), ("done", "2")}
    assert pairs.count(("killed", "1")) > 20


def test_a_disk_that_is_full_leaves_the_old(store: Store) -> None:
    # Without a handler of its own Python ignores the signal, and writing fails instead.
    full = """
import resource
add("bob")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    add("carol")
except module.StoreError:
    print("refused", len(module.Store(store.path.parent).read()))
"""
    assert output(child(store, full)) == ["refused", "1"]
    add(store, "carol")
    assert names(store) == {"bob@x", "carol@x"}


MANY = """
for number in range(int(sys.argv[3])):
    add(sys.argv[2] + str(number))
    print(number, flush=True)
"""


def test_killed_at_any_time_it_has_lost_nothing_that_it_had_finished(store: Store) -> None:
    chance = random.Random(4)  # noqa: S311
    for turn in range(12):
        process = child(store, MANY, f"{turn}-", "10000")
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        timer = threading.Timer(chance.uniform(0, 0.05), process.kill)
        timer.start()
        finished = 1 + len(output(process))
        assert process.returncode == -9
        found = {each for each in names(store) if each.startswith(f"{turn}-")}
        expected = [f"{turn}-{number}@x" for number in range(finished + 1)]
        assert found in (set(expected), set(expected[:-1]))


def test_two_at_once_lose_nothing(store: Store) -> None:
    both = [child(store, MANY, name, "200") for name in ("one", "two")]
    assert [len(output(each)) for each in both] == [200, 200]
    assert names(store) == {f"{name}{number}@x" for name in ("one", "two") for number in range(200)}


# -- where, and settings --------------------------------------------------------------------------


def test_where_it_is() -> None:
    given = {"XDG_DATA_HOME": "/data", "XDG_CONFIG_HOME": "/config"}
    assert directory(given) == Path("/data/telepathy-e2e")
    assert settings_file(given) == Path("/config/telepathy-e2e/trust.toml")
    for each in ({}, {"XDG_DATA_HOME": ""}, {"XDG_DATA_HOME": "relative"}):
        assert directory(each) == Path.home() / ".local/share/telepathy-e2e"


def test_settings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "trust.toml"
    assert read_settings(file) == Settings(UnknownKey.TRUST, InClear.PROCEED)
    file.write_text("")
    assert read_settings(file) == Settings()
    file.write_text('unknown-key = "ask"\nin-the-clear = "reject"')
    assert read_settings(file) == Settings(UnknownKey.ASK, InClear.REJECT)


@pytest.mark.parametrize(
    "text",
    [
        b'unknown-key = "never"',
        b"unknown-key = 1",
        b"in-the-clear = []",
        b'unknownkey = "ask"',
        b"unknown-key",
        b"\xff",
        b"#" * (MAX_SETTINGS + 1),
    ],
)
def test_settings_that_make_no_sense_are_an_error(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "trust.toml"
    file.write_bytes(text)
    with pytest.raises(StoreError, match=r"trust\.toml"):
        read_settings(file)


def test_settings_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        read_settings(tmp_path)
