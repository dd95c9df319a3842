"""Stream management: counters, what is sent again, and what counts as lost (XEP-0198)."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import ConnectionLost, PeerError
from telepathy_e2e.xmpp.management import (
    MAX_RESUME_SECONDS,
    MAX_UNACKNOWLEDGED,
    MAX_UNACKNOWLEDGED_TEXT,
    REQUEST_EVERY,
    SM,
    StreamManagement,
)


def element(name: str, **attributes: str) -> Element:
    return Element(f"{{{SM}}}{name}", attributes)


def stanza(kind: str = "presence", text: str = "") -> Element:
    made = Element(f"{{jabber:client}}{kind}")
    SubElement(made, "{x}y").text = text
    return made


def enabled(**attributes: str) -> StreamManagement:
    made = StreamManagement()
    made.enable()
    made.receive(element("enabled", **{"id": "abc", "resume": "true", **attributes}))
    return made


def acknowledge(machine: StreamManagement, count: int) -> Element | None:
    return machine.receive(element("a", h=str(count)))


def test_before_it_is_enabled_nothing_is_kept() -> None:
    machine = StreamManagement()
    assert machine.sent(stanza()) is None
    assert not machine.resumable
    assert machine.lost() == []


def test_what_goes_out_after_enable_counts_even_before_the_answer() -> None:
    machine = StreamManagement()
    machine.enable()
    sent = stanza()
    machine.sent(sent)
    answer = machine.receive(element("enabled", id="abc", resume="true"))
    assert answer is not None
    assert answer.tag == f"{{{SM}}}r"
    assert machine.lost() == [sent]


def test_a_server_that_does_not_enable_it_is_a_server_without_it() -> None:
    machine = StreamManagement()
    machine.enable()
    machine.sent(stanza())
    assert machine.receive(element("failed")) is None
    assert not machine.resumable
    assert machine.lost() == []


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [
        ({}, MAX_RESUME_SECONDS),
        ({"max": "10"}, 10),
        ({"max": "100000"}, MAX_RESUME_SECONDS),
        ({"max": "soon"}, MAX_RESUME_SECONDS),
    ],
)
def test_the_server_says_for_how_long_but_not_for_ever(
    attributes: dict[str, str], seconds: float
) -> None:
    assert enabled(**attributes).seconds == seconds


@pytest.mark.parametrize("attributes", [{"resume": "false"}, {"id": ""}])
def test_without_an_id_or_the_word_nothing_can_be_resumed(attributes: dict[str, str]) -> None:
    assert not enabled(**attributes).resumable


def test_each_stanza_that_was_handled_is_confirmed_on_request() -> None:
    machine = enabled()
    for _ in range(3):
        machine.handled()
    answer = machine.receive(element("r"))
    assert answer is not None
    assert answer.get("h") == "3"


def test_the_count_of_what_was_handled_wraps_at_32_bits() -> None:
    machine = enabled()
    machine._handled = 2**32 - 1
    machine.handled()
    answer = machine.receive(element("r"))
    assert answer is not None
    assert answer.get("h") == "0"


def test_the_count_of_what_was_sent_wraps_at_32_bits() -> None:
    machine = enabled()
    machine._acknowledged = 2**32 - 1
    machine.sent(stanza())
    last = stanza()
    machine.sent(last)
    acknowledge(machine, 0)
    assert machine.lost() == [last]


def test_a_message_asks_for_a_confirmation_once_until_it_comes() -> None:
    machine = enabled()
    first = machine.sent(stanza("message"))
    assert first is not None
    assert first.tag == f"{{{SM}}}r"
    assert machine.sent(stanza("message")) is None
    again = acknowledge(machine, 1)
    assert again is not None, "the second is not confirmed yet"
    assert acknowledge(machine, 2) is None


def test_other_stanzas_ask_now_and_then() -> None:
    machine = enabled()
    requests = [machine.sent(stanza()) for _ in range(REQUEST_EVERY)]
    assert requests[:-1] == [None] * (REQUEST_EVERY - 1)
    assert requests[-1] is not None


def test_elements_that_are_no_stanzas_are_not_counted() -> None:
    machine = enabled()
    machine.sent(Element("{urn:xmpp:csi:0}inactive"))
    assert machine.lost() == []


@pytest.mark.parametrize(
    "count", ["2", "-1", "x", "", "4294967296", "99999999999999999999", "\u0661"]
)
def test_a_confirmation_of_what_was_never_sent_is_refused(count: str) -> None:
    machine = enabled()
    machine.sent(stanza())
    with pytest.raises(PeerError):
        machine.receive(element("a", h=count))


def test_a_confirmation_that_goes_back_is_refused() -> None:
    machine = enabled()
    machine.sent(stanza())
    acknowledge(machine, 1)
    with pytest.raises(PeerError):
        acknowledge(machine, 0)


def test_a_resumed_session_sends_again_what_was_not_confirmed_in_order() -> None:
    machine = enabled()
    stanzas = [stanza(text=str(number)) for number in range(4)]
    for each in stanzas:
        machine.sent(each)
    machine.handled()
    asked = machine.resume()
    assert (asked.get("previd"), asked.get("h")) == ("abc", "1")
    assert machine.resumed(element("resumed", previd="abc", h="1")) == stanzas[1:]
    acknowledge(machine, 4)
    assert machine.lost() == []


def test_another_session_is_not_resumed() -> None:
    machine = enabled()
    with pytest.raises(PeerError):
        machine.resumed(element("resumed", previd="other", h="0"))


def test_a_session_that_is_gone_tells_how_far_it_came() -> None:
    machine = enabled()
    stanzas = [stanza(text=str(number)) for number in range(3)]
    for each in stanzas:
        machine.sent(each)
    assert machine.lost(element("failed", h="2")) == stanzas[2:]
    assert not machine.resumable


def test_a_session_that_is_gone_and_counts_wrongly_lost_everything() -> None:
    machine = enabled()
    only = stanza()
    machine.sent(only)
    assert machine.lost(element("failed", h="7")) == [only]


def test_a_server_that_never_confirms_is_left_at_a_number_of_stanzas() -> None:
    machine = enabled()
    for _ in range(MAX_UNACKNOWLEDGED):
        machine.sent(stanza())
    with pytest.raises(ConnectionLost):
        machine.sent(stanza())


def test_a_server_that_never_confirms_is_left_at_an_amount_of_text() -> None:
    machine = enabled()
    half = "x" * (MAX_UNACKNOWLEDGED_TEXT // 2)
    machine.sent(stanza(text=half))
    machine.sent(stanza(text=half))
    with pytest.raises(ConnectionLost):
        machine.sent(stanza(text="x"))


def test_room_is_made_by_confirmations() -> None:
    machine = enabled()
    half = "x" * (MAX_UNACKNOWLEDGED_TEXT // 2)
    for number in range(1, 10):
        machine.sent(stanza(text=half))
        acknowledge(machine, number)
    assert machine._text == 0


Moves = st.lists(st.sampled_from(["send", "deliver", "acknowledge", "break"]), max_size=60)


@given(Moves)
def test_whatever_breaks_every_stanza_arrives_once_and_in_order(moves: list[str]) -> None:
    machine = enabled()
    sent: list[Element] = []
    on_wire: list[Element] = []
    server: list[Element] = []
    for move in moves:
        match move:
            case "send":
                sent.append(stanza(text=str(len(sent))))
                machine.sent(sent[-1])
                on_wire.append(sent[-1])
            case "deliver" if on_wire:
                server.append(on_wire.pop(0))
            case "acknowledge":
                acknowledge(machine, len(server))
            case "break":
                machine.resume()
                on_wire = machine.resumed(element("resumed", previd="abc", h=str(len(server))))
    assert server + on_wire == sent
