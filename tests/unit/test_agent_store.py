"""The agent's files survive whatever happens while they are written."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from telepathy_e2e.agent import seal, store
from telepathy_e2e.agent.store import MAX_ACCOUNT, MAX_ACCOUNTS, Store, Stored
from telepathy_e2e.errors import DoesNotExist, InvalidArgument, NotAvailable
from telepathy_e2e.trust import identity_files
from telepathy_e2e.trust.identities import FileIdentities
from telepathy_e2e.xtls.identity import make_identity
from tests.support.waiting import PATIENCE

WALL = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE, BOB = "alice@example.org", "bob@example.org"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "identities"


@pytest.fixture
def kept(directory: Path) -> Store:
    return Store(directory)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "COST", 2)


def identity(account: str) -> Stored:
    key, certificate = make_identity(account, WALL)
    return Stored(certificate, key)


def sealed(stored: Stored) -> Stored:
    assert stored.key is not None
    return Stored(stored.certificate, sealed=seal.seal(stored.key, b"x"))


async def test_identities_from_before_there_was_an_agent_go_on(
    kept: Store, directory: Path
) -> None:
    certificate = await FileIdentities(directory, lambda: WALL).identity(ALICE)
    assert kept.accounts() == [ALICE]
    assert kept.find_or_make(ALICE, WALL).certificate == certificate


def test_nothing_is_made_by_looking(kept: Store, directory: Path) -> None:
    assert kept.find(ALICE) is None
    assert kept.accounts() == []
    assert not directory.exists()
    with pytest.raises(DoesNotExist):
        kept.get(ALICE)


def test_files_are_for_their_owner_only(kept: Store, directory: Path) -> None:
    kept.find_or_make(ALICE, WALL)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


@pytest.mark.usefixtures("cheap")
def test_a_sealed_identity_is_stored_without_its_key(kept: Store) -> None:
    stored = kept.find_or_make(ALICE, WALL)
    assert stored.key is not None
    kept.replace(ALICE, sealed(stored))
    again = kept.get(ALICE)
    assert (again.key, again.certificate) == (None, stored.certificate)
    assert b"-----BEGIN PRIVATE KEY" not in kept.path(ALICE).read_bytes()


def test_that_the_keyring_has_the_passphrase_is_in_the_file(
    kept: Store, directory: Path, cheap: None
) -> None:
    stored = replace(sealed(identity(ALICE)), in_keyring=True)
    kept.add(ALICE, stored)
    assert kept.get(ALICE) == stored
    kept.replace(ALICE, replace(stored, in_keyring=False))
    assert not kept.get(ALICE).in_keyring
    # A key that lies open is not one that the keyring protects, whatever the file says of it.
    path = kept.path(BOB)
    path.write_bytes(store.KEYRING + identity(BOB).dump())
    path.chmod(0o600)
    with pytest.raises(NotAvailable):
        kept.get(BOB)


def test_accounts_are_listed_by_their_names(kept: Store) -> None:
    accounts = sorted([ALICE, BOB, "%é&ü@example.org", "a" * 300 + "@example.org"])
    for account in accounts:
        kept.add(account, identity(account))
    assert kept.accounts() == accounts


def test_a_file_that_nobody_can_name_is_listed_all_the_same(kept: Store, directory: Path) -> None:
    kept.find_or_make(ALICE, WALL)
    name = "%sha256-" + "0" * 64 + ".pem"
    (directory / name).write_bytes(b"damaged")
    assert kept.accounts() == [name, ALICE]


@pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"])
def test_a_damaged_file_is_an_error_and_stays(kept: Store, content: bytes) -> None:
    kept.find_or_make(ALICE, WALL)
    kept.path(ALICE).write_bytes(content)
    for look in (kept.find, kept.get, lambda account: kept.find_or_make(account, WALL)):
        with pytest.raises(NotAvailable, match="damaged"):
            look(ALICE)
    assert not kept.add(ALICE, identity(ALICE))
    with pytest.raises(NotAvailable):
        kept.replace(ALICE, identity(ALICE))
    assert kept.path(ALICE).read_bytes() == content


def test_a_link_to_nowhere_is_not_a_free_place(kept: Store, directory: Path) -> None:
    kept.find_or_make(BOB, WALL)
    kept.path(ALICE).symlink_to(directory / "nowhere")
    with pytest.raises(NotAvailable):
        kept.find_or_make(ALICE, WALL)
    assert not kept.add(ALICE, identity(ALICE))
    assert not (directory / "nowhere").exists()


def test_an_identity_is_never_written_over_another(kept: Store) -> None:
    first = kept.find_or_make(ALICE, WALL)
    assert not kept.add(ALICE, identity(ALICE))
    with pytest.raises(NotAvailable, match="changed"):
        kept.replace(ALICE, identity(ALICE))
    assert kept.get(ALICE).certificate == first.certificate


def test_what_is_forgotten_is_gone(kept: Store) -> None:
    first = kept.find_or_make(ALICE, WALL)
    kept.forget(ALICE)
    assert kept.accounts() == []
    with pytest.raises(DoesNotExist):
        kept.forget(ALICE)
    assert kept.find_or_make(ALICE, WALL).certificate != first.certificate


def test_there_are_only_so_many(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_ACCOUNTS", 2)
    assert MAX_ACCOUNTS > 2
    kept.find_or_make(ALICE, WALL)
    kept.find_or_make(BOB, WALL)
    with pytest.raises(NotAvailable, match="forget"):
        kept.find_or_make("carol@example.org", WALL)
    kept.find_or_make(BOB, WALL)


def test_a_name_is_bounded(kept: Store) -> None:
    kept.path("a" * MAX_ACCOUNT)
    with pytest.raises(InvalidArgument):
        kept.path("a" * (MAX_ACCOUNT + 1))


def test_another_process_that_writes_is_waited_for_but_not_for_ever(
    kept: Store, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOCK_PATIENCE", 0.05)
    kept.find_or_make(ALICE, WALL)
    with (directory / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert kept.find_or_make(ALICE, WALL)  # reading needs no lock
        with pytest.raises(NotAvailable, match="busy"):
            kept.find_or_make(BOB, WALL)
    assert kept.find_or_make(BOB, WALL)


def _make(directory: Path, answers: multiprocessing.Queue[bytes]) -> None:
    pytest.MonkeyPatch().setattr(store, "LOCK_PATIENCE", PATIENCE)  # a process of its own
    answers.put(Store(directory).find_or_make(ALICE, WALL).certificate)


def test_two_processes_make_one_identity(directory: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[bytes] = context.Queue()
    others = [context.Process(target=_make, args=(directory, answers)) for _ in range(3)]
    for each in others:
        each.start()
    found = {answers.get(timeout=PATIENCE) for _ in others}
    for each in others:
        each.join()
    answers.close()
    answers.join_thread()
    assert found == {Store(directory).get(ALICE).certificate}


# -- kill -9 at every step ----------------------------------------------------------------------

# Each thing that a write does to the disk.
STEPS = ("open", "fdopen", "fsync", "link", "rename", "unlink", "close", "mkdir")
DIED, DONE = 9, 0


def _dies_after(steps: int, work: Callable[[], object]) -> bool:
    """Do it in a process that is gone after so many steps; False: it came to the end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == DIED
    left = [steps]

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **more: object) -> object:
            if not left[0]:
                os._exit(DIED)
            left[0] -= 1
            return real(*arguments, **more)

        return step

    try:
        for name in STEPS:
            setattr(os, name, dying(getattr(os, name)))
        work()
    finally:
        os._exit(DONE)
    raise AssertionError


def _deaths(prepare: Callable[[], None], work: Callable[[], object]) -> Iterator[int]:
    """Once for each step at which it can die; at the end at least six were seen."""
    steps = 0
    while True:
        prepare()
        died = _dies_after(steps, work)
        yield steps
        if not died:
            break
        steps += 1
    assert steps >= 6


def _leftovers(directory: Path) -> list[Path]:
    return list(directory.glob(f".*{identity_files.TEMPORARY}"))


def test_an_identity_that_is_made_is_there_whole_or_not_at_all(
    kept: Store, directory: Path
) -> None:
    made = identity(ALICE)

    def prepare() -> None:
        kept.path(ALICE).unlink(missing_ok=True)

    seen = set()
    for _ in _deaths(prepare, lambda: kept.add(ALICE, made)):
        found = kept.find(ALICE)
        assert found is None or found.certificate == made.certificate
        seen.add(found is None)
        kept.add(BOB, identity(BOB))
        assert not _leftovers(directory)
        kept.forget(BOB)
    assert seen == {True, False}


@pytest.mark.usefixtures("cheap")
def test_an_identity_that_is_sealed_is_never_lost(kept: Store, directory: Path) -> None:
    plain = kept.find_or_make(ALICE, WALL)
    closed = sealed(plain)

    def prepare() -> None:
        kept.replace(ALICE, plain)
        assert not _leftovers(directory)

    seen = set()
    for _ in _deaths(prepare, lambda: kept.replace(ALICE, closed)):
        found = kept.get(ALICE)
        assert found.certificate == plain.certificate
        seen.add(found.sealed == closed.sealed)
    assert seen == {True, False}


def test_a_full_disk_leaves_what_was_there(
    kept: Store, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kept.find_or_make(ALICE, WALL)

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for work in (
            lambda: kept.replace(ALICE, first),
            lambda: kept.find_or_make(BOB, WALL),
        ):
            with pytest.raises(NotAvailable, match="No space left"):
                work()
    assert kept.accounts() == [ALICE]
    assert kept.get(ALICE).certificate == first.certificate
    assert not _leftovers(directory)
