"""Whoever has the wire between two sides can end the protection and can do nothing else.

However the bytes are cut, both sides become protected, by the same keys (each opens what the other
sealed; the strings that people compare are equal), and what is written arrives. With one bit
flipped, bytes put in, taken out or repeated, anywhere and in either direction, no side ever reads
anything but a beginning of what the other wrote, none takes the cut stream for a whole one, and
whoever received the damage notices. Only what TLS gives no meaning may change unnoticed (RFC 8446,
sections 5 and 6.1: the version in the headers of records in the clear, change_cipher_spec, and what
comes after close_notify); then all arrives as if nothing had been.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import event, given
from hypothesis import strategies as st

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.role import Role
from telepathy_e2e.verify.events import StringReady
from telepathy_e2e.xtls.events import Failed, Protected
from tests.unit.xtls_support import BOTH, NOW, PEOPLE, Pair, pair

from .support import CUTS, budget, pieces

# Making keys is what an example costs; the wire is what it is about. A leaf lives for a day.
CREDENTIALS = {role: PEOPLE[role].credentials() for role in BOTH}

PAYLOAD = {role: role.value.encode() * 3000 for role in BOTH}

# Types of records (RFC 8446, appendix B.1).
CHANGE_CIPHER_SPEC, HANDSHAKE = 20, 22

Harm = tuple[str, int, int]


@dataclass
class Wire:
    """Carries everything between the two, cut into pieces; bends one thing on the way."""

    pair: Pair
    cuts: list[int]
    victim: Role | None = None
    """Whose bytes are bent."""
    harm: Harm = ("", 0, 0)
    sent: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(BOTH, 0))
    got: dict[Role, bytearray] = field(default_factory=lambda: {r: bytearray() for r in BOTH})
    harmed: bool = False
    added: bool = False
    """All that was sent is there, and something after it."""
    stream: bytearray = field(default_factory=bytearray)
    """What the victim really sent."""

    def run(self) -> None:
        while self._bytes() or self.pair.carry_sealed():
            pass

    def _bytes(self) -> bool:
        both = self.pair
        both.collect()
        moved = False
        for role in BOTH:
            data, both.bytes_from[role] = bytes(both.bytes_from[role]), bytearray()
            if role is self.victim:
                data = self._bend(role, data)
            for piece in pieces(data, self.cuts):
                both.end[role.other].receive_data(piece, NOW)
                self.got[role.other] += both.end[role.other].read()
                moved = moved or bool(piece)
        both.collect()
        return moved

    def _bend(self, role: Role, data: bytes) -> bytes:
        how, place, value = self.harm
        here = place - self.sent[role]
        self.stream += data
        self.sent[role] += len(data)
        if self.harmed or not 0 <= here < len(data):
            return data
        self.harmed = True
        bent = bytearray(data)
        match how:
            case "flip":
                bent[here] ^= 1 << value % 8
            case "insert":
                bent[here:here] = bytes([value])
            case "remove":
                del bent[here : here + 1 + value % 40]
            case "double":
                bent[here:here] = bent[here : here + 1 + value]
        # What looks the same was not harmed.
        self.harmed = bytes(bent) != data
        self.added = bytes(bent).startswith(data)
        return bytes(bent)

    def means_nothing(self) -> bool:
        """Whether the harm was done where TLS gives no meaning."""
        if self.added:
            return True
        start, place = 0, self.harm[1]
        while (end := start + 5 + int.from_bytes(self.stream[start + 3 : start + 5])) <= place:
            start = end
        kind = self.stream[start]
        return kind == CHANGE_CIPHER_SPEC or (kind == HANDSHAKE and place - start in (1, 2))

    def write(self) -> None:
        for role in BOTH:
            try:
                self.pair.end[role].write(PAYLOAD[role])
                self.pair.end[role].close()
            except NotAvailable:
                pass


def _strings(both: Pair) -> list[str]:
    return [e.text for role in BOTH for e in both.seen[role] if isinstance(e, StringReady)]


@budget(0.3)
@given(CUTS)
def test_however_the_bytes_are_cut_both_are_protected_by_the_same_keys(cuts: list[int]) -> None:
    both = pair(CREDENTIALS)
    wire = Wire(both.start(), cuts)
    wire.run()
    for role in BOTH:
        protected = both.protected(role)
        other = both.protected(role.other)
        assert isinstance(protected, Protected)
        assert isinstance(other, Protected)
        assert protected.peer_fingerprint == other.own_fingerprint
    for role in BOTH:
        both.end[role].start_sas(NOW)
        wire.run()
    one, other_one = _strings(both)
    assert one == other_one
    wire.write()
    wire.run()
    for role in BOTH:
        assert wire.got[role] == PAYLOAD[role.other]
        assert both.end[role].peer_closed
        assert not both.failures(role)


@budget(2)
@given(
    CUTS,
    st.sampled_from(BOTH),
    st.tuples(
        st.sampled_from(("flip", "insert", "remove", "double")),
        # A handshake has some 1,200 bytes in a direction, then comes the payload.
        st.one_of(st.integers(0, 1500), st.integers(0, 29_000)),
        st.integers(0, 255),
    ),
)
def test_harm_on_the_wire_ends_the_protection_and_nothing_wrong_is_read(
    cuts: list[int], victim: Role, harm: Harm
) -> None:
    both = pair(CREDENTIALS)
    wire = Wire(both.start(), cuts, victim, harm)
    wire.run()
    wire.write()
    wire.run()
    if not wire.harmed:
        event("the wire was shorter")
        return
    receiver = victim.other
    if wire.means_nothing() and both.end[receiver].peer_closed:
        event("it meant nothing")
        for role in BOTH:
            assert wire.got[role] == PAYLOAD[role.other]
        return
    if not both.failures(receiver):
        # The rest of a record was taken for more of it, or the length says that more will come.
        event("waits for the rest")
        assert not both.end[receiver].peer_closed
        both.end[receiver].receive_eof(NOW)
        both.collect()
    assert both.failures(receiver), "the harm was not noticed"
    assert not both.end[receiver].peer_closed
    assert len(both.failures(receiver)) <= 2
    for role in BOTH:
        assert PAYLOAD[role.other].startswith(wire.got[role])
        if both.protected(role) is None:
            assert wire.got[role] == b""
        for failure in both.failures(role):
            assert failure.reason in ("security-error", "failed-transport")
        assert both.end[role].read() == b"" or not _over(both, role)


def _over(both: Pair, role: Role) -> bool:
    return any(isinstance(e, Failed) and e.reason == "security-error" for e in both.seen[role])
