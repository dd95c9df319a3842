"""Contacts' identities from themselves: when they are asked, what is answered, what it is worth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from xml.etree.ElementTree import Element

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from telepathy_e2e.attest.identity import build
from telepathy_e2e.attest.statement import IDENTITY, signed_by_identity, vouching
from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle.xml_streams import FEATURE
from telepathy_e2e.service import identity_exchange
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.capabilities import XTLS_FEATURE
from telepathy_e2e.service.events import ConnectionEvent, Emitter
from telepathy_e2e.service.handles import Handles
from telepathy_e2e.service.identity_exchange import MAX_QUESTIONS, IdentityExchange
from telepathy_e2e.service.pep import Pep
from telepathy_e2e.service.protected_peer import ProtectedPeer
from telepathy_e2e.service.published_identity import IdentitiesChanged, PublishedIdentities
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.xmpp.iq import IqRequest
from telepathy_e2e.xmpp.markup import serialise
from telepathy_e2e.xmpp.peer_stream import MAX_STANZA
from telepathy_e2e.xmpp.pubsub import QUERY
from telepathy_e2e.xmpp.roster import Resource
from telepathy_e2e.xtls.encoding import MAX_CERTIFICATE
from telepathy_e2e.xtls.hello import MAX_ATTESTATION_BYTES, MAX_ATTESTATIONS, Attestation
from telepathy_e2e.xtls.identity import identity_fingerprint, make_identity
from telepathy_e2e.xtls.published import (
    IDENTITIES,
    MAX_IDENTITIES,
    NODE,
    Published,
    build_identities,
    build_published,
    parse_identities,
)
from tests.unit.publish_support import BOB, EVE, ME, FakeClient

NOW = datetime.now(UTC)
KEY, MINE = make_identity(ME, NOW)
PHONE_KEY, PHONE = make_identity(ME, NOW)
_, TABLET = make_identity(ME, NOW)
_, BOBS = make_identity(BOB, NOW)
_, BOBS_PHONE = make_identity(BOB, NOW)
_, EVES = make_identity(EVE, NOW)
ABLE = frozenset({FEATURE, XTLS_FEATURE})
MARK = ProtectedPeer(BOB + "/desk", identity_fingerprint(BOBS), False)


def word(key: Any, signer: bytes, about: bytes) -> Attestation:
    """One device says that another one is of the same person."""
    content = vouching(identity_fingerprint(about), identity_fingerprint(signer))
    signed = signed_by_identity(ME, IDENTITY, content)
    signature = key.reveal().sign(signed, ec.ECDSA(hashes.SHA256()))
    return Attestation(IDENTITY, "my other device", build(signer, signature))


class World:
    """An account with streams to programs that answer from ``answers``."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.told: list[ConnectionEvent] = []
        emitter: Emitter[ConnectionEvent] = Emitter()
        emitter.subscribe(self.told.append)
        self.tasks = TaskOwner("test")
        self.attested: tuple[Attestation, ...] = ()
        self.answers: dict[str, Element | Exception] = {}
        self.opened: list[str] = []
        self.gate: asyncio.Event | None = None
        self.flying = self.most_flying = 0
        self.handler: Any = None
        self.asks = False
        self.streams: Any = SimpleNamespace(on_iq=self.on_iq, get=self.get, opened=None)
        self.failure: NotAvailable | None = None
        self.account: Any = SimpleNamespace(
            handles=Handles(),
            events=emitter,
            status=0,
            self_id=ME,
            client=self.client,
            tasks=self.tasks,
            policy=Policy.OPPORTUNISTIC,
            always_verify=False,
            ask_certificate=False,
            parameters={"e2e-publish-identity": False},
            identities=self,
            attestations=self,
            xml_streams=self.streams,
            question_handler_announced=lambda: self.asks,
        )
        self.account.pep = Pep(cast(Account, self.account))
        self.published = self.account.published = PublishedIdentities(self.account)
        self.exchange = IdentityExchange(self.account)
        self.bob = self.account.handles.ensure(BOB)

    # as ``trust.identities.Identities`` and ``Attestations``

    async def identity(self, account: str) -> bytes:
        if self.failure is not None:
            raise self.failure
        return MINE

    async def own(self, account: str, fingerprint: bytes) -> tuple[Attestation, ...]:
        assert fingerprint == identity_fingerprint(MINE)
        return self.attested

    # as ``XmlStreams`` and ``XmlStream``

    def on_iq(self, tag: str, handler: Any) -> None:
        assert tag == IDENTITIES
        self.handler = handler

    async def get(self, full_jid: str, *, quiet: bool) -> Any:
        assert quiet
        self.opened.append(full_jid)
        self.flying += 1
        self.most_flying = max(self.flying, self.most_flying)
        if self.gate is not None:
            await self.gate.wait()
        self.flying -= 1
        answer = self.answers.get(full_jid, NotAvailable("no stream"))

        async def ask(payload: Element, type: str) -> Element:
            assert (payload.tag, type) == (IDENTITIES, "get")
            if isinstance(answer, Exception):
                raise answer
            return answer

        return SimpleNamespace(ask=ask)

    # for tests

    def online(self, jid: str, *features: frozenset[str] | None) -> None:
        self.client.online[jid] = [
            Resource(f"{jid}/{number}", priority=number, features=each)
            for number, each in enumerate(features)
        ]

    def node(self, *published: Published) -> None:
        """What our own node says."""
        self.client.nodes[ME, NODE] = {
            str(number): build_published(each) for number, each in enumerate(published)
        }

    def ask(self, type: str = "get") -> list[Element]:
        """Somebody asks us; the list gets our answer."""
        answers: list[Element] = []
        request = IqRequest(
            answers.append,
            from_=MARK.jid,
            to=ME + "/here",
            id="1",
            type=cast(Any, type),
            payload=Element(IDENTITIES),
            address=MARK.jid,
        )
        try:
            self.handler(request, MARK)
        except PeerError as error:
            request.error(error)
        return answers

    async def answered(self) -> list[Published]:
        answers = self.ask()
        await self.settle()
        return parse_identities(answers[0][0])

    async def settle(self) -> None:
        for _ in range(4):  # tasks that start tasks
            await self.tasks.wait()
            await asyncio.sleep(0)


@pytest_asyncio.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("telepathy_e2e.service.published_identity.AGAIN_SECONDS", 0)
    world = World()
    yield world
    await world.tasks.close()


# -- when a contact is asked ------------------------------------------------------------------


async def test_a_contact_whose_node_lacks_his_key_is_asked_himself(world: World) -> None:
    world.online(BOB, ABLE)
    world.answers[BOB + "/0"] = build_identities([Published(BOBS), Published(BOBS_PHONE)])
    world.published.presented(BOB, identity_fingerprint(BOBS))
    await world.settle()
    assert world.opened == [BOB + "/0"]
    assert world.told == [IdentitiesChanged(world.bob)]
    assert world.published.has_key(BOB)
    found = await world.published.fetch(world.bob)
    assert [each.identity for each in found] == [BOBS, BOBS_PHONE]


async def test_nobody_is_asked_before_there_was_a_session(world: World) -> None:
    """No storm at login: a contact that comes online is none."""
    world.online(BOB, ABLE)
    world.exchange.capabilities_changed(BOB)
    await world.settle()
    assert world.opened == []


async def test_a_contact_is_asked_once(world: World) -> None:
    world.online(BOB, ABLE)
    world.answers[BOB + "/0"] = build_identities([])
    for _ in range(3):
        world.exchange.wanted(BOB)
        await world.settle()
        world.exchange.capabilities_changed(BOB)
    assert len(world.opened) == 1


async def test_whose_node_has_the_key_is_not_asked(world: World) -> None:
    world.online(BOB, ABLE)
    world.client.nodes[BOB, NODE] = {"1": build_published(Published(BOBS))}
    world.published.presented(BOB, identity_fingerprint(BOBS))
    await world.settle()
    assert world.opened == []


async def test_nor_is_who_publishes_it_a_moment_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.online(BOB, ABLE)
    ask = world.published._ask

    async def asked(jid: str) -> list[Published]:
        found = await ask(jid)
        world.client.nodes[BOB, NODE] = {"1": build_published(Published(BOBS))}
        return found

    monkeypatch.setattr(world.published, "_ask", asked)
    world.published.presented(BOB, identity_fingerprint(BOBS))
    await world.settle()
    assert world.opened == []


async def test_a_program_that_can_is_waited_for(world: World) -> None:
    world.online(BOB, None, frozenset({XTLS_FEATURE}), frozenset({FEATURE}))
    world.exchange.wanted(BOB)
    await world.settle()
    assert world.opened == []
    world.online(BOB, ABLE, ABLE | {"more"}, None)
    world.exchange.capabilities_changed(EVE)
    world.exchange.capabilities_changed(BOB)
    await world.settle()
    assert world.opened == [BOB + "/1"]


async def test_who_is_asked_has_to_let_the_contact_through_first(world: World) -> None:
    world.online(BOB, ABLE)
    world.asks = True
    world.exchange.wanted(BOB)
    await world.settle()
    assert world.opened == []
    world.exchange.key_judged(BOB, accepted=False)
    await world.settle()
    assert world.opened == []
    world.exchange.key_judged(BOB, accepted=True)
    await world.settle()
    assert world.opened == [BOB + "/0"]


async def test_who_could_not_answer_is_asked_when_he_opens_a_stream_himself(world: World) -> None:
    world.online(BOB, ABLE)
    world.exchange.wanted(BOB)
    await world.settle()
    world.answers[BOB + "/1"] = build_identities([Published(BOBS)])
    world.streams.opened(EVE + "/1")
    world.streams.opened(BOB + "/1")
    await world.settle()
    assert world.opened == [BOB + "/0", BOB + "/1"]
    assert world.told == [IdentitiesChanged(world.bob)]
    world.streams.opened(BOB + "/1")
    await world.settle()
    assert len(world.opened) == 2


async def test_who_never_answers_is_asked_some_times_and_no_more(world: World) -> None:
    world.online(BOB, ABLE)
    for _ in range(9):
        world.exchange.wanted(BOB)
        world.exchange.capabilities_changed(BOB)
        await world.settle()
    assert len(world.opened) == identity_exchange.MAX_TRIES


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": Policy.OFF},
        {"policy": Policy.VERIFIED},
        {"always_verify": True},
        {"ask_certificate": True},
    ],
)
async def test_people_are_asked_nothing_for_its_sake(
    world: World, settings: dict[str, object]
) -> None:
    world.online(BOB, ABLE)
    for name, value in settings.items():
        setattr(world.account, name, value)
    world.exchange.wanted(BOB)
    await world.settle()
    assert world.opened == []


async def test_strangers_are_not_asked(world: World) -> None:
    world.online(EVE, ABLE)
    world.exchange.wanted(EVE)
    await world.settle()
    assert world.opened == []


async def test_a_few_are_asked_at_the_same_time(world: World) -> None:
    names = [f"friend{number}@example.test" for number in range(9)]
    world.client.list = dict.fromkeys(names, object())
    world.gate = asyncio.Event()
    for name in names:
        world.online(name, ABLE)
        world.exchange.wanted(name)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(world.opened) == identity_exchange.MAX_ASKED
    world.gate.set()
    await world.settle()
    assert sorted(world.opened) == sorted(each + "/0" for each in names)
    assert world.most_flying == identity_exchange.MAX_ASKED


async def test_a_contact_who_does_not_answer_is_nothing_to_talk_about(world: World) -> None:
    silent: list[Element | Exception] = [
        NotAvailable("no"),
        PeerError("wrong"),
        Element("{urn:x}other"),
        Element(IDENTITIES),
    ]
    for number, answer in enumerate(silent):
        jid = f"friend{number}@example.test"
        world.client.list[jid] = object()
        world.online(jid, ABLE)
        world.answers[jid + "/0"] = answer
        world.exchange.wanted(jid)
    await world.settle()
    assert len(world.opened) == 4
    assert world.told == []


# -- what it is worth -----------------------------------------------------------------------


async def test_what_is_not_his_is_dropped(world: World) -> None:
    forged = bytearray(BOBS_PHONE)
    forged[-1] ^= 1
    await world.published.told(
        BOB, [Published(EVES), Published(bytes(forged)), Published(b"x"), Published(BOBS)]
    )
    found = await world.published.fetch(world.bob)
    assert [each.identity for each in found] == [BOBS]


async def test_what_he_said_himself_comes_before_what_a_server_says(world: World) -> None:
    many = [make_identity(BOB, NOW)[1] for _ in range(MAX_IDENTITIES)]
    world.client.nodes[BOB, NODE] = {
        str(number): build_published(Published(each)) for number, each in enumerate([BOBS, *many])
    }
    await world.published.told(BOB, [Published(BOBS_PHONE), Published(BOBS)])
    found = [each.identity for each in await world.published.fetch(world.bob)]
    assert found[:2] == [BOBS_PHONE, BOBS]
    assert len(found) == MAX_IDENTITIES == len(set(found))


async def test_a_server_that_refuses_takes_nothing_of_it_away(world: World) -> None:
    world.client.refuses[QUERY] = "forbidden"
    await world.published.told(BOB, [Published(BOBS)])
    found = await world.published.fetch(world.bob)
    assert [each.identity for each in found] == [BOBS]


async def test_what_he_says_later_takes_its_place(world: World) -> None:
    await world.published.told(BOB, [Published(BOBS)])
    await world.published.told(BOB, [Published(BOBS_PHONE)])
    found = await world.published.fetch(world.bob)
    assert [each.identity for each in found] == [BOBS_PHONE]


async def test_contacts_together_fill_no_more_than_so_much(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "telepathy_e2e.service.published_identity.MAX_TOLD", len(BOBS) + len(BOBS_PHONE)
    )
    for _ in range(5):  # what is replaced does not count twice
        await world.published.told(BOB, [Published(BOBS)])
    await world.published.told(EVE, [Published(EVES, (Attestation("x", "", bytes(5000)),))])
    assert await world.published.fetch(world.account.handles.ensure(EVE)) == []
    assert [each.identity for each in await world.published.fetch(world.bob)] == [BOBS]


# -- what we answer -------------------------------------------------------------------------


async def test_a_device_tells_of_itself_first(world: World) -> None:
    world.attested = (Attestation("openpgp", "Signed", b"x"),)
    assert await world.answered() == [Published(MINE, world.attested)]


async def test_it_tells_of_those_that_vouched_for_it(world: World) -> None:
    said = word(PHONE_KEY, PHONE, MINE)
    world.attested = (said,)
    assert await world.answered() == [Published(MINE, (said,)), Published(PHONE)]


async def test_and_of_those_that_it_vouched_for(world: World) -> None:
    said = word(KEY, MINE, PHONE)
    noise = Attestation(IDENTITY, "", b"noise"), Attestation("x509", "", b"x")
    world.node(Published(MINE), Published(PHONE, (*noise, said)), Published(TABLET))
    assert await world.answered() == [Published(MINE), Published(PHONE, (said,))]


async def test_what_its_server_alone_says_is_not_passed_on(world: World) -> None:
    other = word(PHONE_KEY, PHONE, MINE)
    world.attested = (
        Attestation(IDENTITY, "for another device", word(PHONE_KEY, PHONE, TABLET).data),
        Attestation(IDENTITY, "nonsense", b"x"),
    )
    world.node(
        Published(TABLET),
        Published(PHONE, (other,)),  # about this one, by that one
        Published(TABLET, (word(PHONE_KEY, PHONE, TABLET),)),  # by that one
        Published(TABLET, (word(KEY, MINE, PHONE),)),  # by this one, about another
        Published(EVES),
    )
    assert [each.identity for each in await world.answered()] == [MINE]


async def test_a_node_that_cannot_be_had_leaves_what_is_known(world: World) -> None:
    world.client.refuses[QUERY] = "forbidden"
    assert await world.answered() == [Published(MINE)]


async def test_without_an_identity_there_is_an_error(world: World) -> None:
    world.failure = NotAvailable("locked")
    answers = world.ask()
    await world.settle()
    assert answers[0].get("type") == "error"


async def test_it_is_asked_for_with_get(world: World) -> None:
    (answer,) = world.ask("set")
    assert answer.get("type") == "error"


async def test_many_questions_are_one_look(world: World) -> None:
    world.client.gate = asyncio.Event()
    many = [world.ask() for _ in range(MAX_QUESTIONS + 5)]
    for answers in many[MAX_QUESTIONS:]:
        assert answers[0].get("type") == "error"
    world.client.gate.set()
    await world.settle()
    assert all(answers[0].get("type") == "result" for answers in many[:MAX_QUESTIONS])
    assert world.client.gets(QUERY) == 1
    await world.answered()
    assert world.client.gets(QUERY) == 1


async def test_after_a_while_it_is_looked_up_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_exchange, "FRESH_SECONDS", -1.0)
    await world.answered()
    world.attested = (Attestation("openpgp", "Signed", b"x"),)
    assert await world.answered() == [Published(MINE, world.attested)]


# -- the answer on the wire -----------------------------------------------------------------


def test_an_answer_fits_into_a_stanza_whatever_is_in_it() -> None:
    share = MAX_ATTESTATION_BYTES // MAX_ATTESTATIONS
    said = tuple(Attestation("<" * 64, "&" * 1024, bytes(share)) for _ in range(MAX_ATTESTATIONS))
    largest = [Published(bytes([n]) * MAX_CERTIFICATE, said) for n in range(MAX_IDENTITIES + 1)]
    element = build_identities(largest)
    assert len(serialise(element)) < MAX_STANZA - 8192
    found = parse_identities(element)
    # The first is whole; of the others at least some certificates.
    assert found[0] == largest[0]
    assert found[1] == Published(largest[1].identity) or found[1] == largest[1]
    plain = [Published(bytes([n]) * 600) for n in range(MAX_IDENTITIES + 1)]
    assert parse_identities(build_identities(plain)) == plain[:MAX_IDENTITIES]


def test_what_is_no_identity_is_left_out() -> None:
    element = build_identities([Published(BOBS)])
    element.insert(0, Element("{urn:x}y"))
    element.append(Element(f"{{{NODE}}}pubkey"))
    assert parse_identities(element) == [Published(BOBS)]


@pytest.mark.parametrize("element", [None, Element("{urn:x}identities")])
def test_something_else_is_no_answer(element: Element | None) -> None:
    with pytest.raises(PeerError):
        parse_identities(element)
