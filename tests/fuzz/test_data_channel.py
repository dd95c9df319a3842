"""No packet of a peer makes a data channel raise anything, or hold more than its bounds.

Real packets are broken, repeated and left out; what does arrive is what was sent, from its start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any
from xml.etree.ElementTree import Element

from google_crc32c import value as crc32c
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import data_channel
from telepathy_e2e.jingle.data_channel import DataTransport
from telepathy_e2e.jingle.ice import Candidate, DtlsFingerprint, Transport
from telepathy_e2e.media.inside_sctp import MAX_AHEAD, SLACK, WINDOW, OneStream

from .support import budget, mutated_element

SENT = bytes(range(256)) * 40

OFFER = data_channel.build(
    DataTransport(
        Transport(
            "8hhy",
            "asd88fgpdd777uzjYhagZg",
            candidates=(Candidate(1, "1", 0, "c1", "192.0.2.1", 8998, 2130706431, "udp", "host"),),
            fingerprints=(DtlsFingerprint("sha-256", bytes(32), "actpass"),),
        )
    )
)


@given(mutated_element([OFFER], 3))
def test_no_transport_raises_anything_but_peer_error(element: Element) -> None:
    try:
        data_channel.check(data_channel.parse(element), [("sha-256", bytes(32))])
    except PeerError:
        return


class Dtls:
    """Below an association: packets wait until they are taken."""

    state = "connected"

    def __init__(self, role: str) -> None:
        self._role = role
        self.packets: list[bytes] = []

    def _register_data_receiver(self, receiver: object) -> None:
        """There is one."""

    def _unregister_data_receiver(self, receiver: object) -> None:
        """There is one."""

    async def _send_data(self, data: bytes) -> None:
        self.packets.append(data)


class End:
    def __init__(self, role: str) -> None:
        self.dtls = Dtls(role)
        dtls: Any = self.dtls
        self.sctp = OneStream(dtls, 5000, self, opens=role == "client", label="x")
        self.got = bytearray()
        self.is_closed = False

    def opened(self) -> None:
        """See ``Taker``."""

    def arrived(self, data: bytes) -> None:
        self.got += data

    def ended(self) -> None:
        """See ``Taker``."""

    def closed(self, why: str) -> None:
        self.is_closed = True

    def room(self) -> None:
        """See ``Taker``."""


def summed(packet: bytes) -> bytes:
    """With a checksum that is right: it is no protection, and would hide everything else."""
    blank = packet[:8] + bytes(4) + packet[12:]
    sum_ = int(crc32c(blank))
    return blank[:8] + sum_.to_bytes(4, "little") + blank[12:]


CHANGES = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from("drop twice flip cut all".split()), st.binary()),
    max_size=8,
)


async def play(changes: list[tuple[int, str, bytes]]) -> None:
    alice, bob = End("client"), End("server")
    for end in (alice, bob):
        await end.sctp.begin(5000)
    wrong = {number: (what, with_) for number, what, with_ in changes}
    number = 0
    queued = False
    for _ in range(40):
        for sender, receiver in ((alice, bob), (bob, alice)):
            packets, sender.dtls.packets = sender.dtls.packets, []
            for packet in packets:
                number += 1
                what, with_ = wrong.get(number, ("", b""))
                for changed in _changed(packet, what, with_):
                    await receiver.sctp._handle_data(changed)
                sctp = receiver.sctp
                assert sctp._unread + sctp._held <= WINDOW + SLACK
                assert len(sctp._ahead) <= MAX_AHEAD
        if alice.sctp.is_up and alice.sctp._is_open and not queued:
            queued = True
            await alice.sctp.send(SENT)
        if not alice.dtls.packets and not bob.dtls.packets:
            break
    assert alice.is_closed or changes or bob.got == SENT
    # What is changed in DTLS the peer itself has changed: it may be anything. What is not is whole.
    if all(what in ("drop", "twice") for _, what, _ in changes):
        assert SENT.startswith(bytes(bob.got))
    for end in (alice, bob):
        await end.sctp.end()


def _changed(packet: bytes, what: str, with_: bytes) -> list[bytes]:
    match what:
        case "drop":
            return []
        case "twice":
            return [packet, packet]
        case "flip" if with_:
            at = 12 + with_[0] % max(1, len(packet) - 12)
            return [summed(packet[:at] + with_[:4] + packet[at + len(with_[:4]) :])]
        case "cut":
            return [summed(packet[: 12 + len(with_)])]
        case "all":
            return [summed(packet[:12] + with_), packet]
        case _:
            return [packet]


@budget(0.5)
@given(CHANGES)
def test_no_packet_raises_anything_or_is_held_without_bound(
    changes: list[tuple[int, str, bytes]],
) -> None:
    work: Awaitable[None] = play(changes)
    asyncio.run(_bounded(work))


async def _bounded(work: Awaitable[None]) -> None:
    async with asyncio.timeout(60):
        await work
