"""Identity keys in files: one for each account, for its owner only, never lost by mistake."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from telepathy_e2e.errors import InvalidArgument, NotAvailable
from telepathy_e2e.trust import identity_files as module
from telepathy_e2e.trust.identities import FileIdentities, Identities
from telepathy_e2e.trust.identity_files import MAX_FILE, path_of
from telepathy_e2e.xtls.identity import (
    Credentials,
    check_credentials,
    check_identity,
    make_identity,
    new_session_key,
)

WALL = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE, BOB = "alice@example.org", "bob@example.org"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "identities"


@pytest.fixture
def store(directory: Path) -> FileIdentities:
    return FileIdentities(directory, lambda: WALL)


def only_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


async def test_the_certificates_are_those_that_a_contact_takes(store: Identities) -> None:
    key = new_session_key()
    leaf, identity = await store.certify(ALICE, key.public_key(), WALL)
    check_credentials(Credentials(key, leaf, identity), ALICE, WALL)
    check_identity(identity, leaf, ALICE, WALL)


async def test_an_account_keeps_its_identity(store: FileIdentities, directory: Path) -> None:
    first = await store.identity(ALICE)
    assert await store.identity(ALICE) == first
    assert await FileIdentities(directory).identity(ALICE) == first
    _, certified = await store.certify(ALICE, new_session_key().public_key(), WALL)
    assert certified == first


async def test_accounts_have_identities_of_their_own(store: FileIdentities) -> None:
    assert await store.identity(ALICE) != await store.identity(BOB)


async def test_only_the_owner_can_read_file_and_directory(
    store: FileIdentities, directory: Path
) -> None:
    before = os.umask(0)
    try:
        await store.identity(ALICE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file(directory).stat().st_mode) == 0o600


async def test_the_file_is_pem_that_other_tools_read(
    store: FileIdentities, directory: Path
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    identity = await store.identity(ALICE)
    text = only_file(directory).read_bytes()
    certificate = x509.load_pem_x509_certificate(text)
    assert certificate.public_bytes(Encoding.DER) == identity
    assert load_pem_private_key(text, None).public_key() == certificate.public_key()


@pytest.mark.parametrize(
    "account",
    ["../../etc/passwd", "..", ".", "a/b@example.org", "%2e@x", "ü@example.org", "x\n@y"],
)
def test_no_account_leads_out_of_the_directory(
    store: FileIdentities, directory: Path, account: str
) -> None:
    path = path_of(store._directory, account)
    assert path.parent == directory
    assert path.name.isascii()
    assert path.name.isprintable()
    assert path.suffix == ".pem"


def test_long_and_short_accounts_never_share_a_file(store: FileIdentities) -> None:
    long = "ü" * 1000 + "@example.org"
    name = path_of(store._directory, long).name
    assert len(name) <= 255
    assert name != path_of(store._directory, long + "x").name
    assert name != path_of(store._directory, name.removesuffix(".pem")).name
    for length in (188, 189):  # with the domain 200 and 201 characters
        assert len(path_of(store._directory, "a" * length + "@example.org").name) <= 255


async def test_a_long_account_has_an_identity(store: FileIdentities) -> None:
    account = "a" * 1000 + "@example.org"
    assert await store.identity(account) == await store.identity(account)


@pytest.mark.parametrize("account", ["", "Alice@Example.org"])
async def test_what_is_not_a_normalised_jid_has_no_identity_and_leaves_no_file(
    store: FileIdentities, directory: Path, account: str
) -> None:
    with pytest.raises(InvalidArgument):
        await store.identity(account)
    assert not directory.exists() or not list(directory.iterdir())


async def test_what_is_not_a_public_key_is_not_certified(store: FileIdentities) -> None:
    with pytest.raises(InvalidArgument):
        await store.certify(ALICE, b"no key", WALL)


# -- a damaged file is not an absent one ------------------------------------------------------


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    key, mark, certificate = data.partition(b"-----BEGIN CERTIFICATE-----")
    path.write_bytes(
        {
            "empty": b"",
            "cut": data[:-30],
            "no key": mark + certificate,
            "no certificate": key,
            "more": data + b"something",
            "before": b"something\n" + data,
            "not base64": data.replace(b"M", b"!", 1),
            "binary": b"\0\xff" * 50,
            "too long": data + b"\n" * MAX_FILE,
            "bad certificate": key + mark + b"\nAAAA\n-----END CERTIFICATE-----\n",
            "bad key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
            + mark
            + certificate,
        }[how]
    )


@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "cut",
        "no key",
        "no certificate",
        "more",
        "before",
        "not base64",
        "binary",
        "too long",
        "bad certificate",
        "bad key",
    ],
)
async def test_a_damaged_file_is_an_error_that_says_what_to_do_and_stays(
    store: FileIdentities, directory: Path, how: str
) -> None:
    await store.identity(ALICE)
    path = only_file(directory)
    damage(path, how)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(NotAvailable, match="backup"):
            await store.identity(ALICE)
    assert path.read_bytes() == before
    assert only_file(directory) == path


def test_a_file_at_the_bound_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch(0o600)
    path.write_bytes(b"x" * MAX_FILE)
    assert module.read(path) == b"x" * MAX_FILE
    path.write_bytes(b"x" * (MAX_FILE + 1))
    with pytest.raises(NotAvailable):
        module.read(path)


async def test_the_file_of_another_account_is_refused(store: FileIdentities) -> None:
    await store.identity(ALICE)
    os.rename(path_of(store._directory, ALICE), path_of(store._directory, BOB))
    with pytest.raises(NotAvailable, match="another account"):
        await store.identity(BOB)


async def test_a_key_with_another_keys_certificate_is_refused(store: FileIdentities) -> None:
    await store.identity(ALICE)
    path = path_of(store._directory, ALICE)
    key, _ = make_identity(ALICE, WALL)
    _, certificate = make_identity(ALICE, WALL)
    path.write_bytes(module.dump(key, certificate))
    with pytest.raises(NotAvailable, match="backup"):
        await store.identity(ALICE)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o602, 0o660])
async def test_a_file_that_others_can_reach_is_refused(store: FileIdentities, mode: int) -> None:
    first = await store.identity(ALICE)
    path = path_of(store._directory, ALICE)
    path.chmod(mode)
    with pytest.raises(NotAvailable, match="chmod 600"):
        await store.identity(ALICE)
    path.chmod(0o600)
    assert await store.identity(ALICE) == first


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
async def test_a_directory_that_others_can_reach_is_refused(
    store: FileIdentities, directory: Path, mode: int
) -> None:
    await store.identity(ALICE)
    directory.chmod(mode)
    with pytest.raises(NotAvailable, match="chmod 700"):
        await store.identity(ALICE)


async def test_a_link_is_not_followed(store: FileIdentities, tmp_path: Path) -> None:
    await store.identity(ALICE)
    path = path_of(store._directory, ALICE)
    elsewhere = tmp_path / "elsewhere"
    os.rename(path, elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(NotAvailable):
        await store.identity(ALICE)


async def test_neither_a_pipe_nor_a_directory_is_read(store: FileIdentities) -> None:
    await store.identity(ALICE)
    path = path_of(store._directory, ALICE)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(NotAvailable, match="not a file"):
        await store.identity(ALICE)
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(NotAvailable, match="not a file"):
        await store.identity(ALICE)


async def test_an_unusable_place_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotAvailable, match="file"):
        await FileIdentities(tmp_path / "file").identity(ALICE)


async def test_no_error_shows_the_key(store: FileIdentities, directory: Path) -> None:
    await store.identity(ALICE)
    path = only_file(directory)
    secret = path.read_bytes().split(b"\n")[1].decode()
    damage(path, "more")
    with pytest.raises(NotAvailable) as caught:
        await store.identity(ALICE)
    assert secret not in repr(caught.value) + str(caught.value.__cause__)


# -- two at once ------------------------------------------------------------------------------


async def test_many_at_once_end_with_one_identity(store: FileIdentities, directory: Path) -> None:
    found = await asyncio.gather(*(store.identity(ALICE) for _ in range(8)))
    assert len(set(found)) == 1
    only_file(directory)


def _identity_in_another_process(directory: Path, answers: multiprocessing.Queue[bytes]) -> None:
    answers.put(asyncio.run(FileIdentities(directory, lambda: WALL).identity(ALICE)))


def test_processes_at_once_end_with_one_identity(directory: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[bytes] = context.Queue()
    processes = [
        context.Process(target=_identity_in_another_process, args=(directory, answers))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    answers.close()
    assert len(found) == 1


async def test_the_one_who_comes_second_takes_the_first_ones_key(
    store: FileIdentities, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = make_identity(ALICE, WALL)
    create = module.create

    def late(path: Path, data: bytes) -> None:
        create(path, module.dump(*winner))
        create(path, data)

    monkeypatch.setattr(module, "create", late)
    assert await store.identity(ALICE) == winner[1]
    assert only_file(store._directory) == path_of(store._directory, ALICE)


def test_what_could_not_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        module.create(tmp_path / "x.pem", b"data")
    assert list(tmp_path.iterdir()) == []
