"""Questions and answers: from whom they may come, and exactly one answer each."""

from __future__ import annotations

import asyncio
from xml.etree.ElementTree import XML, Element

import pytest

from telepathy_e2e.errors import Disconnected, PeerError
from telepathy_e2e.xmpp.iq import MAX_ERROR_TEXT, IqRequest, Iqs, IqTimeout, StanzaError
from telepathy_e2e.xmpp.markup import serialise

OWN = "me@example.test/here"
PEER = "you@example.test/there"


class Wire:
    def __init__(self) -> None:
        self.sent: list[Element] = []
        self.iqs = Iqs(self.sent.append)
        self.iqs.own = OWN

    def arrive(self, **attributes: str) -> None:
        """An iq with one child; ``from_`` is from."""
        inside = attributes.pop("inside", "<x xmlns='urn:x'/>")
        if "from_" in attributes:
            attributes["from"] = attributes.pop("from_")
        iq = XML(f"<iq xmlns='jabber:client'>{inside}</iq>")
        iq.attrib.update(attributes)
        self.iqs.receive(iq)

    async def ask(self, to: str | None) -> tuple[asyncio.Task[Element | None], str]:
        task = asyncio.get_running_loop().create_task(
            self.iqs.ask(to, Element("{urn:x}x"), "get", 5)
        )
        await asyncio.sleep(0)
        return task, self.sent[-1].get("id", "")

    def answers(self) -> list[str]:
        return [serialise(each).decode() for each in self.sent]


async def settled(task: asyncio.Task[Element | None]) -> bool:
    for _ in range(3):
        await asyncio.sleep(0)
    return task.done()


@pytest.mark.parametrize(
    ("to", "sender", "accepted"),
    [
        (PEER, PEER, True),
        (PEER, "YOU@Example.test/there", True),
        (PEER, "you@example.test", False),
        (PEER, "you@example.test/other", False),
        (PEER, "mallory@example.test/there", False),
        (PEER, OWN, False),
        (PEER, "example.test", False),
        (PEER, "@", False),
        (PEER, None, False),
        (None, None, True),
        (None, "me@example.test", True),
        (None, OWN, True),
        (None, "example.test", False),
        (None, PEER, False),
        ("me@example.test", None, True),
        ("me@example.test", "me@example.test", True),
        ("example.test", "example.test", True),
        ("example.test", None, False),
    ],
)
@pytest.mark.parametrize("type", ["result", "error"])
async def test_an_answer_counts_only_from_whom_we_asked(
    to: str | None, sender: str | None, accepted: bool, type: str
) -> None:
    wire = Wire()
    task, id = await wire.ask(to)
    given = {"from": sender} if sender is not None else {}
    wire.arrive(id=id, type=type, **given)
    assert await settled(task) == accepted
    if not accepted:
        wire.iqs.close()
        with pytest.raises(Disconnected):
            await task
    elif type == "error":
        with pytest.raises(StanzaError):
            await task
    else:
        result = await task
        assert result is not None
        assert result.tag == "{urn:x}x"


async def test_a_second_answer_is_ignored() -> None:
    wire = Wire()
    task, id = await wire.ask(PEER)
    wire.arrive(id=id, type="result", from_=PEER, inside="")
    wire.arrive(id=id, type="result", from_=PEER)
    assert await task is None
    wire.arrive(id=id, type="result", from_=PEER)


async def test_the_result_is_handed_on_before_what_came_after_it() -> None:
    wire = Wire()
    order: list[str] = []
    wire.iqs.on("{urn:x}x", lambda request: order.append("after"))
    task = asyncio.get_running_loop().create_task(
        wire.iqs.ask(None, Element("{urn:x}x"), "get", 5, lambda result: order.append("result"))
    )
    await asyncio.sleep(0)
    wire.arrive(id=wire.sent[0].get("id", ""), type="result")
    wire.arrive(id="1", type="get", from_=PEER)
    assert order == ["result", "after"]
    await task


async def test_ids_cannot_be_guessed_from_one_another() -> None:
    wire = Wire()
    asked = [await wire.ask(PEER) for _ in range(20)]
    assert len({id[:8] for _, id in asked}) == 20
    wire.iqs.close()
    for task, _ in asked:
        with pytest.raises(Disconnected):
            await task


async def test_no_answer_is_a_timeout() -> None:
    wire = Wire()
    with pytest.raises(IqTimeout):
        await wire.iqs.ask(PEER, Element("{urn:x}x"), "get", 0)


async def test_after_the_end_nothing_is_asked() -> None:
    wire = Wire()
    wire.iqs.close()
    with pytest.raises(Disconnected):
        await wire.iqs.ask(PEER, Element("{urn:x}x"), "get", 5)
    assert wire.sent == []


def test_a_handler_may_answer_now_or_later_but_once() -> None:
    wire = Wire()
    kept: list[IqRequest] = []
    wire.iqs.on("{urn:x}x", kept.append)
    wire.arrive(id="7", type="set", from_="YOU@example.test/There")
    assert wire.sent == []
    (request,) = kept
    assert (request.from_, request.to, request.type) == ("you@example.test/There", OWN, "set")
    request.reply(Element("{urn:x}y"))
    assert wire.answers() == [
        '<iq type="result" id="7" to="YOU@example.test/There"><y xmlns="urn:x"/></iq>'
    ]
    with pytest.raises(RuntimeError):
        request.reply()
    with pytest.raises(RuntimeError):
        request.error(PeerError("x"))
    assert len(wire.sent) == 1


def test_a_handler_that_raises_has_answered_with_an_error() -> None:
    wire = Wire()

    def refuse(request: IqRequest) -> None:
        raise PeerError("private", "item-not-found", jingle="unknown-session")

    wire.iqs.on("{urn:x}x", refuse)
    wire.arrive(id="7", type="set", from_=PEER)
    assert wire.answers() == [
        '<iq type="error" id="7" to="you@example.test/there"><error type="cancel">'
        '<item-not-found xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/>'
        '<unknown-session xmlns="urn:xmpp:jingle:errors:1"/></error></iq>'
    ]


def test_a_handler_that_answers_and_then_raises_has_answered_once() -> None:
    wire = Wire()

    def both(request: IqRequest) -> None:
        request.reply()
        raise PeerError("too late")

    wire.iqs.on("{urn:x}x", both)
    wire.arrive(id="7", type="set", from_=PEER)
    assert len(wire.sent) == 1


@pytest.mark.parametrize("type", ["get", "set"])
def test_what_nobody_handles_is_service_unavailable(type: str) -> None:
    wire = Wire()
    wire.arrive(id="7", type=type, from_=PEER)
    assert "<service-unavailable" in wire.answers()[0]


@pytest.mark.parametrize("inside", ["", "<x xmlns='urn:x'/><x xmlns='urn:x'/>"])
def test_a_request_has_one_child(inside: str) -> None:
    wire = Wire()
    wire.iqs.on("{urn:x}x", lambda request: request.reply())
    wire.arrive(id="7", type="get", from_=PEER, inside=inside)
    assert "<bad-request" in wire.answers()[0]


def test_what_has_no_type_no_id_or_no_sender_is_ignored() -> None:
    wire = Wire()
    wire.arrive(id="7", from_=PEER)
    wire.arrive(id="7", from_=PEER, type="odd")
    wire.arrive(from_=PEER, type="get")
    wire.arrive(id="7", from_="@", type="get")
    assert wire.sent == []


def test_a_request_without_a_sender_is_our_own_servers() -> None:
    wire = Wire()
    kept: list[IqRequest] = []
    wire.iqs.on("{urn:x}x", kept.append)
    wire.arrive(id="7", type="get")
    kept[0].reply()
    assert kept[0].from_ == "me@example.test"
    assert wire.answers() == ['<iq type="result" id="7"/>']


async def test_errors_are_read_whatever_they_are() -> None:
    for inside, expected in (
        ("", ("undefined-condition", "", None)),
        ("<error/>", ("undefined-condition", "", None)),
        ("<error><gone xmlns='urn:other'/></error>", ("undefined-condition", "", None)),
        (
            "<error><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>"
            + "t" * (MAX_ERROR_TEXT + 1)
            + "</text><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
            "<tie-break xmlns='urn:xmpp:jingle:errors:1'/></error>",
            ("gone", "t" * MAX_ERROR_TEXT, "tie-break"),
        ),
    ):
        wire = Wire()
        task, id = await wire.ask(PEER)
        wire.arrive(id=id, type="error", from_=PEER, inside=inside)
        with pytest.raises(StanzaError) as raised:
            await task
        error = raised.value
        assert (error.condition, error.text, error.jingle_condition) == expected


async def test_an_answer_that_was_too_large_is_an_error_of_who_gave_it() -> None:
    wire = Wire()
    task, id = await wire.ask(PEER)
    iq = Element("{jabber:client}iq", {"id": id, "type": "result", "from": "x@example.test/y"})
    wire.iqs.too_large(iq)
    assert not await settled(task)
    iq.set("from", PEER)
    wire.iqs.too_large(iq)
    with pytest.raises(StanzaError) as caught:
        await task
    assert caught.value.condition == "policy-violation"
    wire.iqs.too_large(iq)


@pytest.mark.parametrize("type", ["get", "set"])
async def test_a_request_that_was_too_large_is_refused(type: str) -> None:
    wire = Wire()
    wire.iqs.too_large(Element("{jabber:client}iq", {"id": "1", "type": type, "from": PEER}))
    (answer,) = wire.answers()
    assert "policy-violation" in answer
    assert f"to='{PEER}'" in answer.replace('"', "'")
    wire.iqs.too_large(Element("{jabber:client}iq", {"id": "1", "from": PEER}))
    assert len(wire.sent) == 1
