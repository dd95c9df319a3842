from __future__ import annotations

from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle.rtp_info import (
    INFO_NS,
    Active,
    Hold,
    Info,
    Mute,
    Ringing,
    Unhold,
    Unmute,
    build,
    parse,
)

from .jingle_support import over_the_wire


@pytest.mark.parametrize(
    "info",
    [
        Active(),
        Hold(),
        Unhold(),
        Mute(),
        Mute("responder", "voice"),
        Unmute("initiator", "voice"),
        Ringing(),
    ],
)
def test_what_is_built_is_read_again(info: Info) -> None:
    assert parse([over_the_wire(build(info))]) == [info]


def test_several_are_read_in_order_and_a_ping_says_nothing() -> None:
    assert parse([build(Unhold()), build(Mute())]) == [Unhold(), Mute()]
    assert parse([]) == []


@pytest.mark.parametrize("tag", [f"{{{INFO_NS}}}dance", "{urn:x}hold", "hold"])
def test_what_nobody_knows_is_answered_so_and_nothing_of_it_is_taken(tag: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse([build(Hold()), Element(tag)])
    assert caught.value.jingle == "unsupported-info"


@pytest.mark.parametrize("attributes", [{"creator": "nobody"}, {"name": "a" * 257}])
def test_a_mute_of_nothing_that_there_can_be_is_refused(attributes: dict[str, str]) -> None:
    with pytest.raises(PeerError) as caught:
        parse([Element(f"{{{INFO_NS}}}mute", attributes)])
    assert caught.value.jingle is None
