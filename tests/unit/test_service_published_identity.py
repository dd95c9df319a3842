"""What is published of identities: what we say of ours, and what others' makes us expect."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree.ElementTree import Element, SubElement, tostring

import pytest
import pytest_asyncio

from telepathy_e2e.attest import own as own_attestations
from telepathy_e2e.errors import (
    Disconnected,
    InvalidHandle,
    NetworkError,
    NotAvailable,
    PermissionDenied,
)
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.attestations import Attestations
from telepathy_e2e.service.events import ConnectionEvent, Emitter
from telepathy_e2e.service.handles import Handles
from telepathy_e2e.service.pep import Pep
from telepathy_e2e.service.published_identity import (
    FIND_SECONDS,
    MAX_FETCHES,
    MAX_STRANGERS,
    MAX_UNJUDGED,
    IdentitiesChanged,
    PublishedIdentities,
)
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.xmpp import pubsub
from telepathy_e2e.xtls import identity
from telepathy_e2e.xtls.encoding import MAX_CERTIFICATE, encode
from telepathy_e2e.xtls.hello import Attestation
from telepathy_e2e.xtls.published import (
    MAX_IDENTITIES,
    NODE,
    PUBKEY,
    Published,
    build_published,
    item_id,
)
from tests.unit.publish_support import BOB, EVE, ME, FakeClient

NOW = datetime.now(UTC)
_, MINE = identity.make_identity(ME, NOW)
_, BOBS = identity.make_identity(BOB, NOW)
_, BOBS_PHONE = identity.make_identity(BOB, NOW)
_, EVES = identity.make_identity(EVE, NOW)


class World:
    def __init__(self) -> None:
        self.client = FakeClient()
        self.told: list[ConnectionEvent] = []
        emitter: Emitter[ConnectionEvent] = Emitter()
        emitter.subscribe(self.told.append)
        self.tasks = TaskOwner("test")
        self.failure: NotAvailable | None = None
        self.asked = 0
        self.account: Any = SimpleNamespace(
            handles=Handles(),
            events=emitter,
            status=0,
            self_id=ME,
            client=self.client,
            tasks=self.tasks,
            policy=Policy.OPPORTUNISTIC,
            parameters={"e2e-publish-identity": True},
            identities=self,
            attestations=Attestations({}),
        )
        self.bob = self.account.handles.ensure(BOB)
        self.eve = self.account.handles.ensure(EVE)
        self.account.pep = self.pep = Pep(cast(Account, self.account))
        self.published = PublishedIdentities(cast(Account, self.account))

    async def identity(self, account: str) -> bytes:
        """As ``trust.identities.Identities``."""
        self.asked += 1
        assert account == ME
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return MINE

    def event(self, sender: str, *payloads: Element, retracted: str = "") -> None:
        items = Element(f"{{{pubsub.EVENT}}}items", node=NODE)
        for each in payloads:
            SubElement(items, f"{{{pubsub.EVENT}}}item", id="x").append(each)
        if retracted:
            SubElement(items, f"{{{pubsub.EVENT}}}retract", id=retracted)
        message = Element("{jabber:client}message", {"from": sender})
        SubElement(message, pubsub.EVENT_TAG).append(items)
        assert self.pep.receive_message(message)

    def node(self, jid: str) -> dict[str, Element]:
        return self.client.nodes.setdefault((jid, NODE), {})

    async def publish(self) -> None:
        self.published.publish()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    def writes(self) -> list[str]:
        return [each[0].tag.partition("}")[2] for _, t, each in self.client.asked if t == "set"]


@pytest_asyncio.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("telepathy_e2e.service.published_identity.AGAIN_SECONDS", 0)
    world = World()
    yield world
    await world.tasks.close()


def item(certificate: bytes, *attestations: Attestation) -> Element:
    return build_published(Published(certificate, attestations))


# -- ours -----------------------------------------------------------------------------------


async def test_after_connecting_ours_is_there_for_everybody(world: World) -> None:
    world.published.connected()
    await world.settle()
    assert list(world.node(ME)) == [item_id(MINE)]
    assert tostring(world.node(ME)[item_id(MINE)]) == tostring(item(MINE))
    (stanza,) = [each for _, type, each in world.client.asked if type == "set"]
    options = {each.get("var", ""): each[0].text for each in stanza.iter(f"{{{pubsub.DATA}}}field")}
    assert options["pubsub#access_model"] == "open"
    assert options["pubsub#max_items"] == str(MAX_IDENTITIES)


async def test_what_is_there_already_is_not_told_to_everybody_again(world: World) -> None:
    world.node(ME)[item_id(MINE)] = item(MINE)
    await world.publish()
    assert world.writes() == []


async def test_our_item_with_something_else_in_it_is_put_right(world: World) -> None:
    for wrong in (item(EVES), Element(PUBKEY), item(MINE, Attestation("x", "", b""))):
        world.node(ME)[item_id(MINE)] = wrong
        world.published = PublishedIdentities(cast(Account, world.account))
        await world.publish()
        assert tostring(world.node(ME)[item_id(MINE)]) == tostring(item(MINE))


async def test_what_others_say_of_our_key_goes_along(world: World, tmp_path: Path) -> None:
    where = own_attestations.directory({"XDG_DATA_HOME": str(tmp_path)}, ME)
    for certificate, word in ((MINE, "of this key"), (EVES, "of another key")):
        fingerprint = identity.identity_fingerprint(certificate)
        own_attestations.store(
            where, own_attestations.OwnAttestation("openpgp", word, fingerprint, b"statement")
        )
    world.published.publish()
    async with asyncio.timeout(60):
        while not world.node(ME):
            await asyncio.sleep(0.001)
    said = Attestation("openpgp", "of this key", b"statement")
    assert tostring(world.node(ME)[item_id(MINE)]) == tostring(item(MINE, said))


async def test_other_devices_keep_theirs(world: World) -> None:
    world.node(ME)["other"] = item(MINE)
    await world.publish()
    assert set(world.node(ME)) == {"other", item_id(MINE)}


@pytest.mark.parametrize("off", ["parameter", "policy"])
async def test_who_does_not_want_it_has_it_taken_back(world: World, off: str) -> None:
    if off == "parameter":
        world.account.parameters["e2e-publish-identity"] = False
    else:
        world.account.policy = Policy.OFF
    world.node(ME).update({"other": item(MINE), item_id(MINE): item(MINE)})
    await world.publish()
    assert set(world.node(ME)) == {"other"}
    assert world.writes() == ["retract"]


async def test_who_does_not_want_it_and_never_did_needs_no_key(world: World) -> None:
    world.account.parameters["e2e-publish-identity"] = False
    await world.publish()
    world.client.refuses[pubsub.QUERY] = "item-not-found"
    world.published = PublishedIdentities(cast(Account, world.account))
    await world.publish()
    assert world.asked == 0
    assert world.writes() == []


async def test_a_key_that_cannot_be_had_is_tried_again_when_it_was_used(world: World) -> None:
    world.failure = NotAvailable("locked")
    await world.publish()
    assert world.writes() == []
    world.failure = None
    world.published.presented(BOB, bytes(32))
    await world.settle()
    assert list(world.node(ME)) == [item_id(MINE)]
    world.published.presented(BOB, bytes(32))
    await world.settle()
    assert world.writes() == ["publish"]


async def test_a_server_without_personal_events_is_left_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.client.refuses[pubsub.QUERY] = "service-unavailable"
    with caplog.at_level(logging.INFO):
        await world.publish()
    assert "could not be published" in caplog.text


# -- others' --------------------------------------------------------------------------------


async def test_a_contact_who_publishes_a_key_has_one(world: World) -> None:
    assert not world.published.has_key(BOB)
    world.event(BOB, item(BOBS))
    assert world.told == [IdentitiesChanged(world.bob)]
    assert world.published.has_key(BOB)
    assert not world.published.has_key(EVE)


async def test_one_who_takes_it_back_does_not_lower_what_is_expected(world: World) -> None:
    """Or whoever can write to the node could."""
    world.event(BOB, item(BOBS))
    world.event(BOB, retracted="x")
    assert world.told == [IdentitiesChanged(world.bob)] * 2
    assert world.published.has_key(BOB)


def other_form() -> Element:
    element = Element(PUBKEY)
    SubElement(element, f"{{{NODE}}}identity").text = "%%%"
    return element


def too_long() -> Element:
    element = Element(PUBKEY)
    SubElement(element, f"{{{NODE}}}identity").text = encode(bytes(MAX_CERTIFICATE + 1))
    return element


WRONG = {
    "of somebody else": item(EVES),
    "a wrong signature": item(BOBS[:-1] + bytes([BOBS[-1] ^ 1])),
    "no certificate": item(b"no certificate"),
    "another form": other_form(),
    "too long": too_long(),
    "something else": Element("{urn:xmpp:pubkey:2}pubkey"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_what_is_wrong_is_dropped_with_a_line_and_nothing_is_learned(
    world: World, wrong: Element, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        world.event(BOB, wrong)
        assert not world.published.has_key(BOB)
    assert "was dropped" in caplog.text
    world.node(BOB).update({"1": wrong, "2": item(BOBS)})
    caplog.clear()
    assert await world.published.fetch(world.bob) == [Published(BOBS)]
    assert "was dropped" in caplog.text


async def test_a_stranger_s_event_teaches_nothing(world: World) -> None:
    world.event(EVE, item(EVES))
    assert world.told == []
    assert not world.published.has_key(EVE)


async def test_anybody_s_node_is_read_on_request(world: World) -> None:
    said = Attestation("openpgp", "Signed by Carol", b"statement")
    world.node(EVE)["1"] = item(EVES, said)
    assert await world.published.fetch(world.eve) == [Published(EVES, (said,))]
    assert world.published.has_key(EVE)
    assert await world.published.fetch(world.bob) == []


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        ("forbidden", PermissionDenied),
        ("remote-server-timeout", NetworkError),
        ("internal-server-error", NotAvailable),
    ],
)
async def test_a_server_that_does_not_say_is_an_error(
    world: World, condition: str, error: type[Exception]
) -> None:
    world.client.refuses[pubsub.QUERY] = condition
    with pytest.raises(error):
        await world.published.fetch(world.bob)


async def test_a_node_that_is_not_there_is_empty(world: World) -> None:
    world.client.refuses[pubsub.QUERY] = "item-not-found"
    assert await world.published.fetch(world.bob) == []


async def test_nobody_is_asked_without_a_connection_nor_without_a_contact(world: World) -> None:
    with pytest.raises(InvalidHandle):
        await world.published.fetch(999)
    world.account.status = 2
    with pytest.raises(Disconnected):
        await world.published.fetch(world.bob)
    assert world.client.asked == []


async def test_a_server_that_sends_more_than_was_asked_for_is_cut_short(world: World) -> None:
    world.node(BOB).update({str(number): item(BOBS) for number in range(MAX_IDENTITIES + 1)})
    assert len(await world.published.fetch(world.bob)) == MAX_IDENTITIES


async def test_not_more_than_so_many_are_asked_at_once(world: World) -> None:
    handles = [world.account.handles.ensure(f"c{n}@example.test") for n in range(MAX_FETCHES + 2)]
    await asyncio.gather(*map(world.published.fetch, handles))
    assert world.client.most_flying == MAX_FETCHES


async def test_one_who_is_not_known_to_publish_is_looked_up(world: World) -> None:
    assert not await world.published.find_key(BOB)
    world.node(BOB)["1"] = item(BOBS)
    assert await world.published.find_key(BOB)
    asked = len(world.client.asked)
    assert await world.published.find_key(BOB)
    assert len(world.client.asked) == asked


async def test_a_server_that_does_not_answer_holds_a_transfer_up_for_seconds(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert FIND_SECONDS < 5
    monkeypatch.setattr("telepathy_e2e.service.published_identity.FIND_SECONDS", 0.01)
    world.client.gate = asyncio.Event()
    with caplog.at_level(logging.INFO):
        assert not await world.published.find_key(BOB)
    assert "not known whether" in caplog.text
    world.client.gate.set()
    world.client.refuses[pubsub.QUERY] = "forbidden"
    assert not await world.published.find_key(BOB)


async def test_a_transfer_does_not_wait_for_what_others_look_up(world: World) -> None:
    """Or a program here that asks about everybody could take protection away."""
    world.node(BOB)["1"] = item(BOBS)
    gate = world.client.gate = asyncio.Event()
    handles = [world.account.handles.ensure(f"c{n}@example.test") for n in range(MAX_FETCHES)]
    others = asyncio.gather(*map(world.published.fetch, handles))
    await world.settle()
    world.client.gate = None
    assert await world.published.find_key(BOB)
    gate.set()
    await others


# -- bounds ---------------------------------------------------------------------------------


async def test_of_one_contact_so_many_are_kept(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(MAX_IDENTITIES):
        world.event(BOB, item(b"%d" % number))
    world.event(BOB, item(b"0"))
    assert "are kept" not in caplog.text
    world.event(BOB, item(BOBS))
    assert "are kept" in caplog.text
    assert not world.published.has_key(BOB)
    world.event(BOB, item(BOBS))
    assert world.published.has_key(BOB)


async def test_of_all_contacts_so_many_bytes_are_kept_unjudged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    most = MAX_UNJUDGED // MAX_CERTIFICATE
    names = [f"c{number}@example.test" for number in range(most + 1)]
    world.client.list.update(dict.fromkeys(names))
    for name in names[:-1]:
        world.event(name, item(bytes(MAX_CERTIFICATE)))
    assert "are kept" not in caplog.text
    world.event(names[-1], item(BOBS))
    assert "are kept" in caplog.text
    assert not world.published.has_key(names[0])
    world.event(BOB, item(BOBS))
    assert world.published.has_key(BOB)


async def test_of_strangers_the_last_ones_are_remembered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "telepathy_e2e.service.published_identity.check_published", lambda *_: bytes(32)
    )
    names = [f"s{number}@elsewhere.test" for number in range(MAX_STRANGERS + 1)]
    for name in names:
        world.node(name)["1"] = item(EVES)
        await world.published.fetch(world.account.handles.ensure(name))
    assert not world.published.has_key(names[0])
    assert world.published.has_key(names[1])
    assert world.published.has_key(names[-1])


# -- a session shows an identity ------------------------------------------------------------


NONE_OF = "none of those that he publishes"


async def test_an_identity_that_is_published_is_nothing_to_talk_about(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.event(BOB, item(BOBS))
    world.published.presented(BOB, identity.identity_fingerprint(BOBS))
    await world.settle()
    assert NONE_OF not in caplog.text
    assert [to for to, _, _ in world.client.asked if to == BOB] == []


async def test_that_of_another_device_is_looked_up_first(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Events tell of the last one alone."""
    world.event(BOB, item(BOBS))
    world.node(BOB).update({"1": item(BOBS), "2": item(BOBS_PHONE)})
    assert world.published.has_key(BOB)
    await world.published._compare(BOB, identity.identity_fingerprint(BOBS_PHONE))
    assert NONE_OF not in caplog.text


async def test_one_that_is_not_published_is_told_in_the_log_and_nothing_more(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.event(BOB, item(BOBS))
    world.node(BOB)["1"] = item(BOBS)
    done = asyncio.Event()
    compare = world.published._compare

    async def watched(jid: str, fingerprint: bytes) -> None:
        await compare(jid, fingerprint)
        done.set()

    monkeypatch.setattr(world.published, "_compare", watched)
    world.published.presented(BOB, identity.identity_fingerprint(BOBS_PHONE))
    async with asyncio.timeout(60):
        await done.wait()
    assert NONE_OF in caplog.text


async def test_of_one_who_publishes_nothing_nothing_is_expected(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    unknown: list[str] = []
    world.published.unknown = unknown.append
    for _ in range(3):
        world.published.presented(BOB, identity.identity_fingerprint(BOBS))
        await world.settle()
    async with asyncio.timeout(60):
        while not unknown:
            await asyncio.sleep(0.001)
    assert NONE_OF not in caplog.text
    # He is looked up, since he has a key after all, and once more: he may be about to publish it.
    # Then he is asked himself.
    assert [to for to, _, _ in world.client.asked if to == BOB] == [BOB, BOB]
    assert unknown == [BOB]
    # A stranger's server is not told that he was met.
    world.published.presented(EVE, identity.identity_fingerprint(EVES))
    await world.settle()
    assert [to for to, _, _ in world.client.asked if to == EVE] == []
    assert unknown == [BOB]
