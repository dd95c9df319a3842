"""Several places where the server may be: tried until one is right (RFC 6120 section 3.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiodns
import pytest

from telepathy_e2e.errors import CertSelfSigned, ConnectionRefused, TelepathyError
from telepathy_e2e.xmpp import opening
from telepathy_e2e.xmpp.authenticator import PasswordOnly, ServerCertificate
from telepathy_e2e.xmpp.client import Client
from telepathy_e2e.xmpp.settings import Password, Settings
from tests.scenarios.test_xmpp_client import Witness
from tests.support.prosody import Certificate, Prosody, free_ports
from tests.unit.test_xmpp_targets import Names


class Judge(PasswordOnly):
    """Accepts every certificate, and keeps what it was asked."""

    def __init__(self, password: str) -> None:
        super().__init__(Password(password))
        self.asked: list[ServerCertificate] = []

    async def can_judge(self) -> bool:
        return True

    async def judge(self, shown: ServerCertificate) -> None:
        self.asked.append(shown)


@pytest.fixture(scope="module")
def strange() -> Iterator[Prosody]:
    server = Prosody.start(certificate=Certificate.SELF_SIGNED)
    yield server
    server.stop()


@pytest.fixture
async def silent() -> AsyncIterator[int]:
    """The port of somebody who only listens."""
    done = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        done.set()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Names, "answers", {})
    monkeypatch.setattr(aiodns, "DNSResolver", Names)

    def say(plain: list[int], direct: list[int] | None = None) -> None:
        """Ports, STARTTLS after direct TLS, in the order in which they are tried."""
        numbered = enumerate(plain, 100)
        Names.answers["_xmpp-client"] = [(n, 1, "127.0.0.1.", port) for n, port in numbered]
        numbered = enumerate(direct or [])
        Names.answers["_xmpps-client"] = [(n, 1, "127.0.0.1.", port) for n, port in numbered]

    return say


async def log_in(server: Prosody, judge: Judge | None = None, password: str = "") -> None:
    settings = Settings(
        server.jid("alice"),
        Password(password or server.password),
        resource="here",
        ca_file=str(server.ca_file),
    )
    client = Client(settings, Witness(), judge)
    try:
        await client.connect()
        assert client.jid == "alice@example.test/here"
    finally:
        await client.disconnect()


async def test_dead_silent_and_wrong_places_are_passed_over(
    names: Any, prosody: Prosody, strange: Prosody, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # For the silent ones; the right one gets it as well.
    monkeypatch.setattr(opening, "TARGET_SECONDS", 6.0)
    names([strange.port, silent, prosody.port], direct=[free_ports(1)[0], silent])
    judge = Judge(prosody.password)
    await log_in(prosody, judge)
    # The right server was found: nobody is bothered with the wrong one.
    assert judge.asked == []
    assert "<auth" not in strange.log


@pytest.mark.parametrize("direct", [False, True])
async def test_if_none_verifies_people_are_asked_about_the_first_that_does_not(
    names: Any, strange: Prosody, direct: bool
) -> None:
    names([strange.port, free_ports(1)[0]], direct=[strange.tls_port] if direct else [])
    judge = Judge(strange.password)
    await log_in(strange, judge)
    assert len(judge.asked) == 1
    assert judge.asked[0].hostname == "example.test"


async def test_what_is_wrong_with_a_certificate_is_what_is_told(
    names: Any, strange: Prosody
) -> None:
    names([free_ports(1)[0], strange.port, free_ports(1)[0]])
    with pytest.raises(CertSelfSigned):
        await log_in(strange)


async def test_if_all_refuse_it_is_a_refusal(names: Any, prosody: Prosody) -> None:
    names(free_ports(2), direct=free_ports(1))
    with pytest.raises(ConnectionRefused):
        await log_in(prosody)


async def test_a_wrong_password_is_not_tried_elsewhere(names: Any, prosody: Prosody) -> None:
    names([prosody.port, prosody.port])
    before = prosody.log.count("<auth")
    with pytest.raises(TelepathyError, match="password is wrong"):
        await log_in(prosody, password="wrong")
    assert prosody.log.count("<auth") == before + 1
