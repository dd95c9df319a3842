import asyncio
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from telepathy_e2e.attest.gnupg import MAX_OUTPUT, Gpg, find_gpg, names
from telepathy_e2e.attest.statement import statement
from telepathy_e2e.errors import NotAvailable, SecurityError
from telepathy_e2e.xtls.uri import enforced
from tests.support.gnupg import Keyring, keyring, needs_gpg

JID = "bob@example.org"
PRINT = bytes(range(32))


@dataclass
class People:
    bob: Keyring
    alice: Keyring
    key: str
    """Bob's."""

    def signature(self, content: bytes | None = None, *options: str) -> bytes:
        made = statement(JID, PRINT) if content is None else content
        return self.bob.sign(self.key, made, *options)

    async def check(self, data: bytes, jid: str = JID, fingerprint: bytes = PRINT) -> str:
        program = find_gpg()
        assert program is not None
        gpg = Gpg(program, self.alice.environment)
        return await gpg.check(data, bare_jid=jid, fingerprint=fingerprint, normalise=enforced)

    def meet(self) -> None:
        """Alice has Bob's key, and has certified it."""
        self.alice.import_(self.bob.export(self.key))
        self.alice.certify(self.key, self.alice.make("Alice <alice@example.org>"))


@pytest.fixture
def people() -> Iterator[People]:
    with keyring() as bob, keyring() as alice:
        yield People(bob, alice, bob.make("xmpp:" + JID))


@needs_gpg
async def test_a_key_that_the_user_certified_vouches(people: People) -> None:
    people.meet()
    assert await people.check(people.signature()) == people.key


@needs_gpg
async def test_the_user_id_is_compared_after_enforcement(people: People) -> None:
    people.key = people.bob.make("xmpp:Carol@Example.ORG")
    people.meet()
    data = people.signature(statement("carol@example.org", PRINT))
    assert await people.check(data, "carol@example.org") == people.key


@needs_gpg
async def test_a_key_that_is_there_and_not_certified_does_not(people: People) -> None:
    people.alice.import_(people.bob.export(people.key))
    with pytest.raises(SecurityError, match="no user id"):
        await people.check(people.signature())


@needs_gpg
async def test_an_unknown_key_does_not_and_is_not_fetched(people: People) -> None:
    conf = people.alice.home / "gpg.conf"
    conf.write_text("auto-key-retrieve\nauto-key-import\nkeyserver hkp://127.0.0.1:9\n")
    with pytest.raises(SecurityError, match="not good"):
        await people.check(people.signature())
    with pytest.raises(SecurityError, match="not good"):
        await people.check(people.signature(None, "--include-key-block"))
    assert people.alice.fingerprints() == []


@needs_gpg
@pytest.mark.parametrize(
    "user_id", ["Bob <bob@example.org>", "xmpp:bob@example.org.evil", "xmpp:bob@example.org/x"]
)
async def test_without_that_very_user_id_it_does_not(people: People, user_id: str) -> None:
    people.key = people.bob.make(user_id)
    people.meet()
    with pytest.raises(SecurityError, match="no user id"):
        await people.check(people.signature())


@needs_gpg
async def test_a_user_id_that_was_added_later_is_not_certified(people: People) -> None:
    people.key = people.bob.make("Bob <bob@example.org>")
    people.meet()
    people.bob.gpg("--passphrase=", "--quick-add-uid", people.key, "xmpp:" + JID)
    people.alice.import_(people.bob.export(people.key))
    with pytest.raises(SecurityError, match="no user id"):
        await people.check(people.signature())


@needs_gpg
async def test_a_revoked_key_does_not(people: People) -> None:
    people.meet()
    data = people.signature()
    people.bob.revoke(people.key)
    people.alice.import_(people.bob.export(people.key))
    with pytest.raises(SecurityError):
        await people.check(data)


@needs_gpg
async def test_a_revoked_user_id_does_not(people: People) -> None:
    people.meet()
    people.bob.gpg("--passphrase=", "--quick-add-uid", people.key, "Bob")
    people.bob.gpg("--passphrase=", "--quick-revoke-uid", people.key, "xmpp:" + JID)
    people.alice.import_(people.bob.export(people.key))
    with pytest.raises(SecurityError, match="no user id"):
        await people.check(people.signature())


@needs_gpg
async def test_an_expired_key_does_not(people: People) -> None:
    people.key = people.bob.make("xmpp:" + JID, expire="1d", when="20240101T000000!")
    data = people.signature(None, "--faked-system-time=20240101T010000!")
    people.alice.import_(people.bob.export(people.key))
    people.alice.trust(people.key, 6)
    with pytest.raises(SecurityError):
        await people.check(data)


@needs_gpg
async def test_an_expired_signature_does_not(people: People) -> None:
    people.key = people.bob.make("xmpp:" + JID, expire="0", when="20240101T000000!")
    people.meet()
    when = "--faked-system-time=20240101T010000!"
    data = people.signature(None, when, "--default-sig-expire=1d")
    with pytest.raises(SecurityError):
        await people.check(data)
    assert await people.check(people.signature(None, when)) == people.key


@needs_gpg
async def test_a_statement_about_another_key_or_person_does_not(people: People) -> None:
    people.meet()
    data = people.signature()
    with pytest.raises(SecurityError):
        await people.check(data, fingerprint=bytes(32))
    with pytest.raises(SecurityError):
        await people.check(data, jid="eve@example.org")


@needs_gpg
async def test_a_broken_hash_does_not(people: People) -> None:
    people.meet()
    for hash in ("SHA1", "RIPEMD160"):
        data = people.signature(None, f"--digest-algo={hash}", "--allow-weak-digest-algos")
        with pytest.raises(SecurityError):
            await people.check(data)


@needs_gpg
async def test_a_message_that_brings_its_own_text_does_not(people: People) -> None:
    people.meet()
    message = people.bob.gpg(
        "--no-armor", "-z0", "-u", people.key, "-o", "-", "--sign", content=statement(JID, PRINT)
    )
    with pytest.raises(SecurityError):
        await people.check(message)


@needs_gpg
async def test_the_users_own_key_signs_what_others_can_check(people: People) -> None:
    program = find_gpg()
    assert program is not None
    gpg = Gpg(program, people.bob.environment)
    key, ids = await gpg.signing_key("xmpp:" + JID)
    assert key == people.key
    assert [each.text for each in ids] == ["xmpp:" + JID]
    people.meet()
    assert await people.check(await gpg.sign(key, statement(JID, PRINT))) == key
    with pytest.raises(NotAvailable, match="no secret"):
        await gpg.signing_key("nobody@example.org")
    with pytest.raises(NotAvailable, match="by hand"):
        await gpg.sign("nobody@example.org", b"x")


# -- a gpg that misbehaves -------------------------------------------------------------------------

PACKET = b"\x88\x0c\x04\x00" + bytes(10)


def fake(tmp_path: Path, script: str) -> Gpg:
    program = tmp_path / "gpg"
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Gpg(str(program), {"PATH": os.environ["PATH"], "SECRET": "open sesame"})


async def judged(gpg: Gpg) -> str:
    return await gpg.check(PACKET, bare_jid=JID, fingerprint=PRINT, normalise=enforced)


def hanging(tmp_path: Path) -> Gpg:
    """Its process id is in the file ``pid`` as soon as there is such a file."""
    return fake(
        tmp_path,
        f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 600\n",
    )


async def test_one_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpg, pid = hanging(tmp_path), tmp_path / "pid"
    seconds = 0.1
    while not pid.exists():  # nothing is said of one that was killed before it had begun
        seconds *= 2
        monkeypatch.setattr(
            Gpg._run, "__kwdefaults__", {**(Gpg._run.__kwdefaults__ or {}), "seconds": seconds}
        )
        with pytest.raises(NotAvailable, match="in time"):
            await judged(gpg)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_nobody_waiting_any_more_ends_it(tmp_path: Path) -> None:
    task = asyncio.ensure_future(judged(hanging(tmp_path)))
    async with asyncio.timeout(60):
        while not (tmp_path / "pid").exists():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_what_it_says_has_a_bound(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="more than"):
        await judged(fake(tmp_path, "exec yes\n"))
    with pytest.raises(SecurityError):
        await judged(fake(tmp_path, f"head -c {MAX_OUTPUT} /dev/zero\n"))


async def test_one_that_cannot_be_started_is_not_available(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="started"):
        await judged(Gpg(str(tmp_path / "nothing")))


async def test_its_environment_is_what_it_needs(tmp_path: Path) -> None:
    gpg = fake(tmp_path, f"env > {tmp_path}/env\n")
    with pytest.raises(SecurityError):
        await judged(gpg)
    assert "open sesame" not in (tmp_path / "env").read_text()


async def test_its_files_are_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SecurityError):
        await judged(fake(tmp_path, f'for last; do :; done\ncp "$last" {tmp_path}/seen\n'))
    assert (tmp_path / "seen").read_bytes() == statement(JID, PRINT)
    assert not list(tmp_path.glob("e2e-*"))


async def test_no_place_for_its_files_is_not_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(NotAvailable, match="room"):
        await judged(fake(tmp_path, "true\n"))


def test_where_there_is_no_gpg_there_is_no_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_gpg() is None


@pytest.mark.parametrize(
    "user_id",
    [
        "bob@example.org",
        "XMPP:bob@example.org",
        "xmpp:",
        "xmpp:bob@example.org?message",
        " xmpp:bob@example.org",
    ],
)
def test_a_user_id_is_the_whole_of_it(user_id: str) -> None:
    assert names("xmpp:bob@example.org", JID, enforced)
    assert not names(user_id, JID, enforced)
