"""The XMPP client against a real Prosody."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from xml.etree.ElementTree import Element

import aiodns
import pytest

from telepathy_e2e.errors import (
    AuthenticationFailed,
    CertExpired,
    CertHostnameMismatch,
    CertNotActivated,
    CertSelfSigned,
    CertUntrusted,
    ConnectionLost,
    ConnectionRefused,
    ConnectionReplaced,
    Disconnected,
    E2EError,
    EncryptionNotAvailable,
    InvalidArgument,
    NetworkError,
    NotAvailable,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.xmpp import session as session_module
from telepathy_e2e.xmpp.client import Client, IqRequest, IqTimeout, RosterChange, StanzaError
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xmpp.settings import Password, Settings
from tests.support.prosody import Certificate, Prosody, free_ports
from tests.support.waiting import PATIENCE, until

WAIT = PATIENCE
JINGLE = "{urn:xmpp:jingle:1}jingle"


class Witness:
    """Keeps what a client told, and wakes who waits for it."""

    def __init__(self) -> None:
        self.ended: list[TelepathyError | None] = []
        self.messages: list[Element] = []
        self.lost: list[Element] = []
        self.presences: list[str] = []
        self.capabilities: list[str] = []
        self.roster: set[str] = set()
        self._news = asyncio.Event()

    def disconnected(self, error: TelepathyError | None) -> None:
        self.ended.append(error)
        self._news.set()

    def undelivered(self, stanzas: list[Element]) -> None:
        self.lost += stanzas
        self._news.set()

    def message_received(self, stanza: Element) -> None:
        self.messages.append(stanza)
        self._news.set()

    def presence_received(self, stanza: Element) -> bool:
        return False

    def presence_extras(self) -> list[Element]:
        return []

    def presence_changed(self, bare_jid: str) -> None:
        self.presences.append(bare_jid)
        self._news.set()

    def roster_loaded(self, error: E2EError | None) -> None:
        self._news.set()

    def capabilities_changed(self, bare_jid: str) -> None:
        self.capabilities.append(bare_jid)
        self._news.set()

    def roster_changed(self, changes: Sequence[RosterChange]) -> None:
        self.roster.update(change.jid for change in changes)
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT):
            while not condition():
                self._news.clear()
                await self._news.wait()


class Person:
    """A client and its witness."""

    def __init__(self, on: Prosody, name: str, **settings: Any) -> None:
        given: dict[str, Any] = {
            "account": on.jid(name),
            "password": Password(on.password),
            "server": on.host,
            "port": on.port,
            "ca_file": str(on.ca_file),
            "resource": "here",
        }
        self.sees = Witness()
        self.client = Client(Settings(**{**given, **settings}), self.sees)
        self.bare = bare(self.client.jid)


Make = Callable[..., Person]


@pytest.fixture
async def person(prosody: Prosody) -> AsyncIterator[Make]:
    """Makes clients that are disconnected in the end."""
    made: list[Person] = []

    def make(name: str, on: Prosody = prosody, **settings: Any) -> Person:
        made.append(Person(on, name, **settings))
        return made[-1]

    yield make
    for each in made:
        await each.client.disconnect()
    await until(lambda: not any(t.get_name().startswith("xmpp") for t in asyncio.all_tasks()))


@contextmanager
def server_with(**options: Any) -> Iterator[Prosody]:
    server = Prosody.start(**options)
    try:
        yield server
    finally:
        server.stop()


async def online(*people: Person) -> None:
    """All connected, and all see each other."""
    for each in people:
        await each.client.connect()
        each.client.set_presence("", "", 0)
    for each in people:
        for other in people:
            await each.sees.until(lambda: each.client.resources(other.bare))  # noqa: B023


def element(tag: str, text: str = "") -> Element:
    result = Element(tag)
    result.text = text
    return result


# -- coming up ------------------------------------------------------------------------------


async def test_connects_with_starttls_and_has_the_resource_asked_for(person: Make) -> None:
    alice = person("alice")
    await alice.client.connect()
    assert alice.client.jid == "alice@example.test/here"


async def test_connects_with_direct_tls(person: Make, prosody: Prosody) -> None:
    alice = person("alice", port=prosody.tls_port, old_ssl=True)
    await alice.client.connect()
    assert alice.client.jid == "alice@example.test/here"


async def test_the_server_chooses_a_resource_if_none_is_asked_for(person: Make) -> None:
    alice = person("alice", resource="")
    await alice.client.connect()
    assert alice.client.jid.startswith("alice@example.test/")
    assert len(alice.client.jid) > len("alice@example.test/")


async def test_a_wrong_password_is_told_as_such(person: Make) -> None:
    with pytest.raises(AuthenticationFailed, match="password is wrong"):
        await person("alice", password=Password("wrong")).client.connect()


async def test_an_authority_that_is_not_known_is_not_trusted(person: Make) -> None:
    with pytest.raises(CertUntrusted):
        await person("alice", ca_file="").client.connect()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Certificate.EXPIRED, CertExpired),
        (Certificate.NOT_YET, CertNotActivated),
        (Certificate.WRONG_NAME, CertHostnameMismatch),
        (Certificate.UNKNOWN_AUTHORITY, CertUntrusted),
        (Certificate.SELF_SIGNED, CertSelfSigned),
    ],
)
@pytest.mark.parametrize("direct", [False, True])
async def test_what_is_wrong_with_a_certificate_is_told(
    person: Make, kind: Certificate, error: type[Exception], direct: bool
) -> None:
    with server_with(certificate=kind) as server:
        port = server.tls_port if direct else server.port
        with pytest.raises(error) as raised:
            await person("alice", server, port=port, old_ssl=direct).client.connect()
        assert type(raised.value) is error
        assert "Authenticated" not in server.log


async def test_an_extra_identity_stands_in_for_the_domain(person: Make) -> None:
    with server_with(certificate=Certificate.WRONG_NAME) as server:
        alice = person("alice", server, extra_identities=("elsewhere.test",))
        await alice.client.connect()
        with pytest.raises(CertHostnameMismatch):
            await person("bob", server, extra_identities=("other.test",)).client.connect()


async def test_extra_identities_do_not_replace_the_domain(person: Make) -> None:
    await person("alice", extra_identities=("elsewhere.test",)).client.connect()


async def test_a_server_without_tls_is_refused(person: Make) -> None:
    with server_with(encryption=False) as server:
        with pytest.raises(EncryptionNotAvailable):
            await person("alice", server).client.connect()
        assert "alice" not in server.log.split("Client connected", 1)[1]


async def test_a_server_without_tls_is_used_if_the_user_says_so(person: Make) -> None:
    with server_with(encryption=False) as server:
        alice = person("alice", server, require_encryption=False)
        await alice.client.connect()
        assert base64.b64encode(b"\0alice\0open sesame").decode() not in server.log
        assert "PLAIN" not in server.log.split("Received[c2s_unauthed]: <auth", 1)[1][:200]


async def test_a_refused_port_is_told_as_such(person: Make) -> None:
    with pytest.raises(ConnectionRefused):
        await person("alice", port=free_ports(1)[0]).client.connect()


class Names:
    """In place of the name servers."""

    answers: ClassVar[dict[str, list[tuple[int, str, int]]]] = {}

    def __init__(self, **_: object) -> None: ...

    async def query_dns(self, name: str, kind: str) -> SimpleNamespace:
        assert kind == "SRV"
        if name not in self.answers:
            raise aiodns.error.DNSError(4, "not found")
        data = [
            SimpleNamespace(data=SimpleNamespace(priority=p, weight=1, target=t, port=n))
            for p, t, n in self.answers[name]
        ]
        return SimpleNamespace(answer=data)

    async def close(self) -> None: ...


@pytest.mark.parametrize("direct", [False, True])
async def test_dns_says_where_the_server_is_and_dead_addresses_are_passed_over(
    person: Make, prosody: Prosody, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    service = "_xmpps-client" if direct else "_xmpp-client"
    port = prosody.tls_port if direct else prosody.port
    answers = [(20, "localhost.", port), (10, "localhost.", free_ports(1)[0])]
    monkeypatch.setattr(Names, "answers", {f"{service}._tcp.example.test": answers})
    monkeypatch.setattr(aiodns, "DNSResolver", Names)
    alice = person("alice", server="", port=0)
    await alice.client.connect()
    assert alice.client.jid == "alice@example.test/here"


async def test_an_unreadable_authority_file_is_an_invalid_argument(
    person: Make, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument):
        await person("alice", ca_file=str(tmp_path / "none.pem")).client.connect()


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' id='x' "
    b"xmlns:stream='http://etherx.jabber.org/streams'>"
)


@asynccontextmanager
async def impostor(script: Script) -> AsyncIterator[int]:
    """Something else where a server should be; its port."""
    writers: list[asyncio.StreamWriter] = []

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await script(reader, writer)

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in writers:
            each.transport.abort()
        await asyncio.sleep(0)


async def test_a_server_that_says_nothing_is_given_up(
    person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "CONNECT_SECONDS", 0.3)

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with impostor(silent) as port:
        with pytest.raises(NetworkError, match="in time"):
            await person("alice", port=port).client.connect()


@pytest.mark.parametrize(
    "greeting",
    [
        b"220 mail.example.test ESMTP\r\n",
        b"<html><body>",
        b"<!DOCTYPE x [<!ENTITY e 'e'>]>" + HEADER,
        HEADER + b"<a>" * 100,
        HEADER + b"<a b='" + b"c" * 100_000,
        HEADER + b"<stream:features/>",
        HEADER + b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        HEADER + b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        HEADER + b"</stream:stream>",
    ],
)
async def test_something_that_is_no_xmpp_server_is_given_up(person: Make, greeting: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()

    async with impostor(greet) as port, asyncio.timeout(WAIT):
        with pytest.raises(TelepathyError):
            await person("alice", port=port).client.connect()


async def test_what_is_injected_before_tls_is_never_looked_at(person: Make) -> None:
    """Words in the same packet as <proceed/>, by somebody in between (as in CVE-2011-0411)."""
    seen: list[bytes] = []

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"jabber.org/streams'>")
        writer.write(
            HEADER + b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
            b"</stream:features>"
        )
        await reader.readuntil(b"/>")
        writer.write(
            b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><stream:features>"
            b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
            b"<mechanism>PLAIN</mechanism><mechanism>SCRAM-SHA-1</mechanism></mechanisms>"
            b"</stream:features>"
        )
        seen.append(await reader.read(3))
        writer.close()

    async with impostor(between) as port:
        with pytest.raises(TelepathyError):
            await person("alice", port=port).client.connect()
    assert seen[0][:2] == b"\x16\x03"  # a TLS handshake, and no <auth


async def test_a_server_may_not_send_us_elsewhere(person: Make) -> None:
    connections: list[int] = []

    async def send_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await reader.readuntil(b"jabber.org/streams'>")
        writer.write(
            HEADER + b"<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>"
            b"127.0.0.1</see-other-host></stream:error></stream:stream>"
        )
        await reader.read()

    async with impostor(send_away) as port:
        with pytest.raises(TelepathyError, match="elsewhere"):
            await person("alice", port=port).client.connect()
    assert connections == [1]


async def test_a_client_is_used_once(person: Make) -> None:
    alice = person("alice")
    await alice.client.connect()
    with pytest.raises(NotAvailable):
        await alice.client.connect()
    await alice.client.disconnect()
    with pytest.raises(NotAvailable):
        await alice.client.connect()


# -- going down -----------------------------------------------------------------------------


async def test_disconnecting_is_told_without_an_error_and_others_see_it(person: Make) -> None:
    alice, bob = person("alice"), person("bob")
    await online(alice, bob)
    await alice.client.disconnect()
    assert alice.sees.ended == [None]
    await bob.sees.until(lambda: not bob.client.resources(alice.bare))
    await alice.client.disconnect()
    assert alice.sees.ended == [None]


async def test_a_server_that_dies_fails_what_was_asked_and_tells_the_end_once(
    person: Make,
) -> None:
    with server_with() as server:
        alice, bob = person("alice", server), person("bob", server)
        bob.client.on_iq(JINGLE, lambda request: server.kill())
        await online(alice, bob)
        with pytest.raises(Disconnected):
            await alice.client.send_iq(bob.client.jid, element(JINGLE))
        await alice.sees.until(lambda: alice.sees.ended)
        assert [type(each) for each in alice.sees.ended] == [ConnectionLost]
        assert alice.client.resources(bob.bare) == []
        with pytest.raises(Disconnected):
            await alice.client.send_iq(bob.client.jid, element(JINGLE))
        with pytest.raises(Disconnected):
            alice.client.set_presence("", "", 0)


async def test_an_orderly_shutdown_is_told(person: Make) -> None:
    with server_with() as server:
        alice = person("alice", server)
        await alice.client.connect()
        await asyncio.to_thread(server.end)
        await alice.sees.until(lambda: alice.sees.ended)
        assert [type(each) for each in alice.sees.ended] == [ConnectionLost]


async def test_the_same_resource_elsewhere_replaces_this_one(person: Make) -> None:
    first, second = person("alice"), person("alice")
    await first.client.connect()
    await second.client.connect()
    await first.sees.until(lambda: first.sees.ended)
    assert [type(each) for each in first.sees.ended] == [ConnectionReplaced]
    assert second.sees.ended == []


async def test_a_server_that_stops_answering_is_noticed(
    person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "PING_SECONDS", 0.2)
    with server_with() as server:
        alice = person("alice", server, keepalive_interval=0.2)
        await alice.client.connect()
        server.pause()
        await alice.sees.until(lambda: alice.sees.ended)
        assert [type(each) for each in alice.sees.ended] == [ConnectionLost]


async def test_a_server_that_answers_is_kept(person: Make) -> None:
    with server_with() as server:
        alice = person("alice", server, keepalive_interval=0.05)
        await alice.client.connect()
        async with asyncio.timeout(WAIT):
            while server.log.count("Received[c2s]: <iq") < 10:
                await asyncio.sleep(0.05)
        assert alice.sees.ended == []


RAW_MODULE = """
-- Writes what it is sent, as it is, into the stream of whoever sent it.
module:hook("iq-set/host/urn:test:raw:raw", function (event)
    local raw = event.stanza.tags[1];
    event.origin.conn:write(raw:get_text():rep(tonumber(raw.attr.times or "1")));
    return true;
end);
"""


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("<message><body></message>", 1),
        ("<!DOCTYPE a>", 1),
        ("<!-- -->", 1),
        ("<message><body>" + "x" * 1000, 5000),
        ("<a>", 1000),
        ("<message/><message a='", 1000),
        ("<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>", 1),
        ("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", 1),
        ("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", 1),
    ],
)
async def test_a_server_that_sends_what_it_may_not_loses_us_and_no_more(
    person: Make, tmp_path: Path, text: str, times: int
) -> None:
    (tmp_path / "mod_test_raw.lua").write_text(RAW_MODULE)
    with server_with(modules=["test_raw"], module_directory=tmp_path) as server:
        alice = person("alice", server)
        await alice.client.connect()
        raw = element("{urn:test:raw}raw", text)
        raw.set("times", str(times))
        with pytest.raises(Disconnected):
            await alice.client.send_iq("example.test", raw)
        assert len(alice.sees.ended) == 1
        assert isinstance(alice.sees.ended[0], TelepathyError)
        again = person("alice", server)
        await again.client.connect()


async def test_elements_that_no_standard_names_are_ignored(person: Make, tmp_path: Path) -> None:
    (tmp_path / "mod_test_raw.lua").write_text(RAW_MODULE)
    with server_with(modules=["test_raw"], module_directory=tmp_path) as server:
        alice = person("alice", server)
        await alice.client.connect()
        for text in (
            "<odd xmlns='urn:odd'/>",
            "<presence from='@'/><presence/><message/><iq/>",
            "<iq type='result' id='x' from='bob@example.test'/>",
            "<iq type='get' id='x' from='@'><a/></iq>",
            "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>",
        ):
            with pytest.raises(IqTimeout):
                await alice.client.send_iq(
                    "example.test", element("{urn:test:raw}raw", text), timeout=0.2
                )
        assert alice.sees.ended == []


# -- questions and answers ------------------------------------------------------------------


async def test_an_iq_brings_the_payload_there_and_the_answer_back(person: Make) -> None:
    alice, bob = person("alice"), person("bob")
    seen: list[IqRequest] = []

    def answer(request: IqRequest) -> None:
        seen.append(request)
        request.reply(element("{urn:x}got", request.payload.text or ""))

    bob.client.on_iq(JINGLE, answer)
    await online(alice, bob)
    text = 'a <b> & "c"\n\té\U0001f512'  # Prosody makes a line feed of a carriage return
    result = await alice.client.send_iq(bob.client.jid, element(JINGLE, text))
    assert result is not None
    assert (result.tag, result.text) == ("{urn:x}got", text)
    assert (seen[0].from_, seen[0].to, seen[0].type) == (alice.client.jid, bob.client.jid, "set")
    with pytest.raises(RuntimeError):
        seen[0].reply()


async def test_an_error_answer_names_its_conditions(person: Make) -> None:
    alice, bob = person("alice"), person("bob")

    def refuse(request: IqRequest) -> None:
        raise PeerError("secret reason", "unexpected-request", jingle="out-of-order")

    bob.client.on_iq(JINGLE, refuse)
    await online(alice, bob)
    with pytest.raises(StanzaError) as raised:
        await alice.client.send_iq(bob.client.jid, element(JINGLE))
    error = raised.value
    assert (error.condition, error.jingle_condition) == ("unexpected-request", "out-of-order")
    assert error.text == ""


async def test_what_nobody_handles_is_answered_service_unavailable(person: Make) -> None:
    alice, bob = person("alice"), person("bob")
    await online(alice, bob)
    with pytest.raises(StanzaError) as raised:
        await alice.client.send_iq(bob.client.jid, element("{urn:x}y"))
    assert raised.value.condition == "service-unavailable"


async def test_requests_arrive_in_the_order_they_were_sent(person: Make) -> None:
    alice, bob = person("alice"), person("bob")
    seen: list[str | None] = []

    def note(request: IqRequest) -> None:
        seen.append(request.payload.text)
        request.reply()

    bob.client.on_iq(JINGLE, note)
    await online(alice, bob)
    calls = [alice.client.send_iq(bob.client.jid, element(JINGLE, str(n))) for n in range(50)]
    assert await asyncio.gather(*calls) == [None] * 50
    assert seen == [str(n) for n in range(50)]


async def test_no_answer_is_a_timeout_and_a_late_answer_is_ignored(person: Make) -> None:
    alice, bob = person("alice"), person("bob")
    held: list[IqRequest] = []
    bob.client.on_iq(JINGLE, held.append)
    await online(alice, bob)
    with pytest.raises(IqTimeout):
        await alice.client.send_iq(bob.client.jid, element(JINGLE), timeout=0.3)
    await until(lambda: held)
    held[0].reply()
    bob.client.on_iq(JINGLE, lambda request: request.reply())
    assert await alice.client.send_iq(bob.client.jid, element(JINGLE)) is None


async def test_somebody_who_is_not_there_is_an_error(person: Make) -> None:
    alice = person("alice")
    await online(alice)
    with pytest.raises(StanzaError) as raised:
        await alice.client.send_iq("bob@example.test/gone", element(JINGLE))
    assert raised.value.condition == "service-unavailable"


async def test_what_xml_cannot_carry_is_refused_and_the_stream_lives(person: Make) -> None:
    alice = person("alice")
    await online(alice)
    with pytest.raises(InvalidArgument):
        await alice.client.send_iq(alice.client.jid, element(JINGLE, "\x00"))
    with pytest.raises(InvalidArgument):
        alice.client.set_presence("", "\x1b[31m", 0)
    answer = await alice.client.send_iq(
        "example.test", Element("{http://jabber.org/protocol/disco#info}query"), "get"
    )
    assert answer is not None


async def test_a_contact_list_from_anybody_but_our_server_is_refused(person: Make) -> None:
    alice, bob = person("alice"), person("bob")
    await online(alice, bob)
    before = dict(bob.client.contacts())
    push = Element("{jabber:iq:roster}query")
    push.append(Element("{jabber:iq:roster}item", jid="mallory@example.test", subscription="both"))
    with pytest.raises(StanzaError):
        await alice.client.send_iq(bob.client.jid, push)
    assert bob.client.contacts() == before


# -- contacts -------------------------------------------------------------------------------


async def test_the_contact_list_and_presence_become_known(person: Make) -> None:
    alice, bob = person("alice"), person("bob")
    await online(alice, bob)
    await alice.sees.until(lambda: bob.bare in alice.sees.roster)
    contact = alice.client.contacts()[bob.bare]
    assert (contact.name, contact.subscription, contact.groups) == ("Bob", "both", ("Friends",))
    bob.client.set_presence("away", "at <lunch>", -3)
    await alice.sees.until(lambda: alice.client.resources(bob.bare)[0].show == "away")
    (resource,) = alice.client.resources(bob.bare)
    assert (resource.jid, resource.priority, resource.status) == (bob.client.jid, -3, "at <lunch>")


async def test_capabilities_are_known_after_presence(person: Make) -> None:
    alice, bob = person("alice"), person("bob")
    bob.client.set_features(["urn:xmpp:jingle:1", "urn:x"])
    await online(alice, bob)
    await alice.sees.until(lambda: bob.bare in alice.sees.capabilities)
    (resource,) = alice.client.resources(bob.bare)
    assert resource.features is not None
    assert resource.features >= {"urn:xmpp:jingle:1", "urn:x"}
    assert resource.identities[0][:2] == ("client", "pc")


async def test_new_features_are_told_to_everybody(person: Make) -> None:
    alice, bob = person("alice"), person("bob")
    await online(alice, bob)
    await alice.sees.until(lambda: bob.bare in alice.sees.capabilities)
    bob.client.set_features(["urn:new"])
    await alice.sees.until(
        lambda: "urn:new" in (alice.client.resources(bob.bare)[0].features or ())
    )
    bob.client.set_features([])
    await alice.sees.until(
        lambda: "urn:new" not in (alice.client.resources(bob.bare)[0].features or ("urn:new",))
    )


async def test_features_can_be_asked_for_directly(person: Make, prosody: Prosody) -> None:
    await asyncio.to_thread(prosody.add_account, "dave")
    alice, dave = person("alice"), person("dave")
    dave.client.set_features(["urn:d"])
    await alice.client.connect()
    await dave.client.connect()
    assert "urn:d" in await alice.client.features_of(dave.client.jid)
    assert await alice.client.features_of("nobody@example.test/x") == frozenset()


async def test_disco_info_is_answered_for_our_node_and_no_other(person: Make) -> None:
    alice, bob = person("alice"), person("bob")
    await online(alice, bob)
    query = Element("{http://jabber.org/protocol/disco#info}query", node="http://other#x")
    with pytest.raises(StanzaError) as raised:
        await alice.client.send_iq(bob.client.jid, query, "get")
    assert raised.value.condition == "item-not-found"


async def test_the_servers_proxy_is_found_and_refuses_what_it_does_not_know(
    person: Make, prosody: Prosody
) -> None:
    alice = person("alice")
    await alice.client.connect()
    async with asyncio.timeout(WAIT):
        while not alice.client.proxies():
            await asyncio.sleep(0.01)
    (proxy,) = alice.client.proxies()
    assert (proxy.jid, proxy.host, proxy.port) == (prosody.proxy, "127.0.0.1", prosody.proxy_port)
    with pytest.raises(StanzaError):
        await alice.client.activate_proxy(proxy.jid, "sid", "bob@example.test/here")
