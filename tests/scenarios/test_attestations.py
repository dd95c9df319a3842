"""People for whom somebody vouches have nothing to compare: real daemons, real server, real gpg."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.attest import own
from telepathy_e2e.attest.chain import MAX_CHAIN
from telepathy_e2e.attest.own import OwnAttestation
from telepathy_e2e.xtls.certificates import parse
from telepathy_e2e.xtls.identity import identity_fingerprint, make_identity
from tests.support.authority import DAY, Authority
from tests.support.gnupg import Keyring, keyring, needs_gpg
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import (
    AGENT,
    AGENT_NAME,
    AGENT_PATH,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    VERIFICATION,
    DBusFailure,
    Side,
)

DATA = secrets.token_bytes(100_000)
VERIFIED = {"e2e_policy": Variant("s", "verified")}
HANDLES = (FILE_TRANSFER, VERIFICATION)


@dataclass
class World:
    """Alice, who trusts some authority, and Bob, for whom somebody vouches."""

    pair: Pair
    company: Authority
    authorities: Path

    @property
    def jid(self) -> str:
        return self.pair.server.jid("bob")

    async def identity(self, side: Side | None = None) -> bytes:
        side = side or self.pair.bob
        jid = self.pair.server.jid(side.name)
        return bytes(await side.call(AGENT_NAME, AGENT_PATH, AGENT, "GetIdentity", "s", jid))

    async def shows(self, data: bytes, kind: str = "x509") -> None:
        """Bob shows this with his identity from now on."""
        where = own.directory({"XDG_DATA_HOME": str(self.pair.bob.directory / "data")}, self.jid)
        fingerprint = identity_fingerprint(await self.identity())
        own.store(where, OwnAttestation(kind, "Somebody vouches", fingerprint, data))

    async def certified(self, **more: Any) -> bytes:
        """What the company says of Bob's key, if nothing else is asked for."""
        key = parse(await self.identity()).spki
        return self.company.attest(self.jid, key, **more)

    async def is_verified(self, method: str) -> None:
        """A file arrives, and nobody was asked anything."""
        pair = self.pair
        mine, theirs = await pair.offer(DATA)
        got, _ = await asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, DATA))
        assert got == DATA
        assert await pair.alice.state(mine, 4, 5) == (4, 0), pair.alice.log
        await self.says_verified(mine, method)

    async def says_verified(self, channel: str, method: str) -> None:
        alice = self.pair.alice
        assert await alice.get(channel, SECURABLE, "Verified") is True
        security = await alice.get_all(channel, E2E)
        assert security["VerifiedBy"] == method
        assert security["VerificationChannel"] == "/"
        assert VERIFICATION not in str(alice.signals)

    async def is_not(self, why: str) -> None:
        """Nothing moves before a person has answered; the log says why."""
        alice, bob = self.pair.alice, self.pair.bob
        mine, theirs = await self.pair.offer(DATA)
        sending = asyncio.ensure_future(alice.provide(mine, DATA))
        receiving = asyncio.ensure_future(bob.accept(theirs))
        question, shown = await alice.new_channel(VERIFICATION)
        assert shown[VERIFICATION + ".Methods"] == ["fingerprint", "sas", "password"]
        assert shown[VERIFICATION + ".Attestations"][0][1] == "Somebody vouches"
        assert await alice.get(mine, SECURABLE, "Verified") is False
        assert why in alice.log
        await alice.cm(question, VERIFICATION, "Reject", "s", "not he")
        assert await receiving == b""
        await sending
        assert (await alice.state(mine, 5))[0] == 5


@pytest.fixture
def company() -> Authority:
    return Authority.make()


async def start(prosody: Prosody, company: Authority, tmp_path: Path, **more: Any) -> World:
    authorities = tmp_path / "company.pem"
    authorities.write_bytes(company.pem)
    settings = {"e2e_ca_file": Variant("s", str(authorities)), **VERIFIED, **more.pop("alice", {})}
    return World(await Pair.start(prosody, alice=settings, **more), company, authorities)


@pytest.fixture
async def world(prosody: Prosody, company: Authority, tmp_path: Path) -> AsyncIterator[World]:
    """Alice demands verification, and no client of hers would answer a question."""
    world = await start(prosody, company, tmp_path)
    yield world
    await world.pair.stop()


async def test_who_has_a_certificate_of_the_company_is_verified(world: World) -> None:
    await world.shows(await world.certified())
    await world.is_verified("x509")


async def test_also_by_an_authority_below_it(world: World) -> None:
    key = parse(await world.identity()).spki
    await world.shows(world.company.below("Department").attest(world.jid, key))
    await world.is_verified("x509")


async def test_also_when_he_is_the_one_who_sends(world: World) -> None:
    await world.shows(await world.certified())
    pair = world.pair
    path = await pair.bob.offer_file(pair.server.jid("alice"), "from-bob.bin", len(DATA))
    theirs, _ = await pair.alice.new_channel(FILE_TRANSFER)
    got, _ = await asyncio.gather(pair.alice.accept(theirs), pair.bob.provide(path, DATA))
    assert got == DATA
    await world.says_verified(theirs, "x509")


async def test_another_authority_says_nothing(world: World) -> None:
    world.company = Authority.make()
    await world.shows(await world.certified())
    await world.is_not("none of the chosen authorities")


async def test_a_certificate_of_somebody_else_says_nothing(world: World) -> None:
    """Replayed as it is: Carol's certificate is no secret, and it is for Carol's key."""
    carol, _ = make_identity("carol@localhost", datetime.now(UTC))
    await world.shows(world.company.attest("carol@localhost", carol.public_key()))
    await world.is_not("a certificate of another key")


async def test_a_certificate_for_his_key_in_another_name_says_nothing(world: World) -> None:
    world_key = parse(await world.identity()).spki
    await world.shows(world.company.attest("carol@localhost", world_key))
    await world.is_not("a certificate of somebody else")


async def test_a_certificate_for_his_name_and_another_key_says_nothing(world: World) -> None:
    other, _ = make_identity(world.jid, datetime.now(UTC))
    await world.shows(world.company.attest(world.jid, other.public_key()))
    await world.is_not("a certificate of another key")


async def test_an_expired_certificate_says_nothing(world: World) -> None:
    now = datetime.now(UTC)
    await world.shows(await world.certified(not_before=now - 9 * DAY, not_after=now - 2 * DAY))
    await world.is_not("none of the chosen authorities")


async def test_a_chain_without_end_is_not_followed(world: World) -> None:
    below = world.company
    for number in range(MAX_CHAIN):
        below = below.below(f"Department {number}")
    key = parse(await world.identity()).spki
    await world.shows(below.attest(world.jid, key))
    await world.is_not("a chain of certificates that is too long or cut")


async def test_rubbish_says_nothing(world: World) -> None:
    await world.shows(secrets.token_bytes(3000))
    await world.is_not("no certificate")


async def test_an_authority_that_the_user_took_out_says_nothing_any_more(world: World) -> None:
    await world.shows(await world.certified())
    await world.is_verified("x509")
    world.authorities.write_bytes(Authority.make().pem)
    await world.is_not("none of the chosen authorities")


async def test_the_systems_authorities_say_nothing(
    prosody: Prosody, company: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system.pem"
    system.write_bytes(company.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    other = Authority.make()
    world = await start(prosody, other, tmp_path)
    try:
        world.company = company
        await world.shows(await world.certified())
        await world.is_not("none of the chosen authorities")
    finally:
        await world.pair.stop()


async def test_nor_do_those_for_servers_certificates(
    prosody: Prosody, company: Authority, tmp_path: Path
) -> None:
    """``ca-file`` is about the server; whoever may vouch for that does not vouch for Bob."""
    both = tmp_path / "servers.pem"
    both.write_bytes(prosody.ca_file.read_bytes() + company.pem)
    settings = {**VERIFIED, "ca_file": Variant("s", str(both))}
    world = World(await Pair.start(prosody, alice=settings), company, both)
    try:
        await world.shows(await world.certified())
        await world.is_not("")
    finally:
        await world.pair.stop()


async def test_a_client_that_handles_questions_decides(
    prosody: Prosody, company: Authority, tmp_path: Path
) -> None:
    """It alone knows whether Bob had another key before."""
    world = await start(prosody, company, tmp_path, alice_handles=HANDLES)
    try:
        await world.shows(await world.certified())
        pair = world.pair
        mine, theirs = await pair.offer(DATA)
        sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
        receiving = asyncio.ensure_future(pair.bob.accept(theirs))
        question, shown = await pair.alice.new_channel(VERIFICATION)
        assert shown[VERIFICATION + ".Methods"] == ["fingerprint", "sas", "password", "x509"]
        assert await pair.alice.get(mine, SECURABLE, "Verified") is False
        await pair.alice.cm(question, VERIFICATION, "Accept", "s", "x509")
        assert await receiving == DATA
        await sending
        assert await pair.alice.get(mine, E2E, "VerifiedBy") == "x509"
    finally:
        await world.pair.stop()


async def test_where_people_are_asked_each_time_nobody_elses_word_counts(
    prosody: Prosody, company: Authority, tmp_path: Path
) -> None:
    always = {"e2e_always_verify": Variant("b", True)}
    world = await start(prosody, company, tmp_path, alice=always)
    try:
        await world.shows(await world.certified())
        pair = world.pair
        mine, theirs = await pair.offer(DATA)
        sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
        receiving = asyncio.ensure_future(pair.bob.accept(theirs))
        question, shown = await pair.alice.new_channel(VERIFICATION)
        assert "x509" not in shown[VERIFICATION + ".Methods"]
        assert [each[0] for each in shown[VERIFICATION + ".Attestations"]] == ["x509"]
        with pytest.raises(DBusFailure, match="PermissionDenied"):
            await pair.alice.cm(question, VERIFICATION, "Accept", "s", "x509")
        await pair.alice.cm(question, VERIFICATION, "Accept", "s", "fingerprint")
        assert await receiving == DATA
        await sending
    finally:
        await world.pair.stop()


async def test_types_that_nobody_knows_are_shown(world: World) -> None:
    await world.shows(b"\0anything", "tarot")
    await world.is_not("")


# -- openpgp ---------------------------------------------------------------------------------------


@pytest.fixture
def rings() -> Iterator[tuple[Keyring, Keyring]]:
    """Alice's and Bob's."""
    with keyring() as alice, keyring() as bob:
        yield alice, bob


@dataclass
class OpenPGP:
    world: World
    alice: Keyring
    bob: Keyring

    async def attest(self, key: str, *words: str, code: int = 0) -> str:
        """What a user types; standard error."""
        side = self.world.pair.bob
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "telepathy_e2e.cli.main",
            "identity",
            "attest",
            "openpgp",
            self.world.jid,
            "--key",
            key,
            *words,
            env={
                **os.environ,
                "GNUPGHOME": str(self.bob.home),
                "DBUS_SESSION_BUS_ADDRESS": side.address,
                "XDG_DATA_HOME": str(side.directory / "data"),
            },
            cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == code, said.decode()
        return said.decode()

    def meet(self, key: str) -> None:
        self.alice.import_(self.bob.export(key))
        self.alice.certify(key, self.alice.make("Alice <alice@example.org>"))


@pytest.fixture
async def openpgp(
    prosody: Prosody,
    rings: tuple[Keyring, Keyring],
    company: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncIterator[OpenPGP]:
    monkeypatch.setenv("GNUPGHOME", str(rings[0].home))
    settings = {**VERIFIED, "e2e_openpgp": Variant("b", True)}
    world = World(await Pair.start(prosody, alice=settings), company, tmp_path)
    await world.identity()  # made now, so that it can be shown to gpg
    yield OpenPGP(world, *rings)
    await world.pair.stop()


@needs_gpg
async def test_a_key_that_alice_certified_vouches_for_bob(openpgp: OpenPGP) -> None:
    key = openpgp.bob.make("xmpp:" + openpgp.world.jid)
    openpgp.meet(key)
    await openpgp.attest(key)
    await openpgp.world.is_verified("openpgp")


@needs_gpg
async def test_a_key_that_she_merely_has_does_not(openpgp: OpenPGP) -> None:
    key = openpgp.bob.make("xmpp:" + openpgp.world.jid)
    openpgp.alice.import_(openpgp.bob.export(key))
    await openpgp.attest(key, "--summary", "Somebody vouches")
    await openpgp.world.is_not("no user id")


@needs_gpg
async def test_a_key_without_his_address_is_refused_here_and_there(openpgp: OpenPGP) -> None:
    key = openpgp.bob.make("Bob <bob@example.org>")
    openpgp.meet(key)
    said = await openpgp.attest(key, code=2)
    assert f"gpg --quick-add-uid {key} xmpp:{openpgp.world.jid}" in said
    from telepathy_e2e.attest.statement import statement

    fingerprint = identity_fingerprint(await openpgp.world.identity())
    signature = openpgp.bob.sign(key, statement(openpgp.world.jid, fingerprint))
    await openpgp.world.shows(signature, "openpgp")
    await openpgp.world.is_not("no user id")


@needs_gpg
async def test_a_revoked_key_does_not(openpgp: OpenPGP) -> None:
    key = openpgp.bob.make("xmpp:" + openpgp.world.jid)
    openpgp.meet(key)
    await openpgp.attest(key, "--summary", "Somebody vouches")
    openpgp.bob.revoke(key)
    openpgp.alice.import_(openpgp.bob.export(key))
    await openpgp.world.is_not("an attestation (openpgp) does not hold")


@needs_gpg
async def test_both_together_are_both_recorded(
    prosody: Prosody,
    company: Authority,
    rings: tuple[Keyring, Keyring],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GNUPGHOME", str(rings[0].home))
    both = {"e2e_openpgp": Variant("b", True)}
    world = await start(prosody, company, tmp_path, alice=both)
    try:
        await world.shows(await world.certified())
        openpgp = OpenPGP(world, *rings)
        key = openpgp.bob.make("xmpp:" + world.jid)
        openpgp.meet(key)
        await openpgp.attest(key)
        mine, theirs = await world.pair.offer(DATA)
        got, _ = await asyncio.gather(
            world.pair.bob.accept(theirs), world.pair.alice.provide(mine, DATA)
        )
        assert got == DATA
        assert await world.pair.alice.get(mine, E2E, "VerifiedMethods") == ["x509", "openpgp"]
    finally:
        await world.pair.stop()
