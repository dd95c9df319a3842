"""What the fuzzers share: budgets, and ways to break what was right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from itertools import pairwise
from xml.etree.ElementTree import Element

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from telepathy_e2e.jingle.candidates import Candidate, Socks5Transport
from telepathy_e2e.jingle.candidates import build as build_s5b
from telepathy_e2e.jingle.files import FileOffer, Range, checksum, received
from telepathy_e2e.jingle.files import build as build_file
from telepathy_e2e.jingle.ibb import InBandOffer, build_close, build_open, build_transport
from telepathy_e2e.jingle.ibb import InBandSender as Sender
from tests.unit.jingle_support import VECTORS, jingle_of


def budget(share: float, steps: int | None = None) -> settings:
    """Settings for an invariant whose examples are dear.

    Args:
        share: part of the profile's examples; a fixed number would make ``make fuzz`` short too.
        steps: of a state machine, in one example.
    """
    examples = max(1, int(settings().max_examples * share))
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    if steps is None:
        return settings(max_examples=examples, suppress_health_check=slow)
    return settings(max_examples=examples, suppress_health_check=slow, stateful_step_count=steps)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """``data`` cut at these places, each taken modulo its length; some pieces may be empty."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


#: Places to cut at, for ``pieces``.
CUTS = st.lists(st.integers(0, 1 << 20), max_size=12)


@st.composite
def mutated_bytes(draw: st.DrawFn, originals: Sequence[bytes], most: int = 4) -> bytes:
    """One of these with some bytes flipped, inserted, removed, doubled, or cut off."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("flip", "set", "insert", "remove", "double", "cut"))):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[place] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0x84, 0xFF)))
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del data[place : place + draw(st.integers(1, 16))]
            case "double":
                piece = data[place : place + draw(st.integers(1, 64))]
                data[place:place] = piece
            case "cut":
                del data[place:]
    return bytes(data)


# What attributes and texts are replaced with: numbers at and past every edge, words of other
# places, what looks like a digit and is none, what XML 1.0 does not even allow.
VALUES = st.one_of(
    st.sampled_from(
        (
            "",
            " ",
            "0",
            "-0",
            "-1",
            "+1",
            "00",
            "1e9",
            "1_000",
            "65535",
            "65536",
            "4294967296",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551616",
            "9" * 19,
            "9" * 20,
            "9" * 5000,
            "\u0661\u0662",
            "\u00b2",
            "\U0001d7d8",
            "NaN",
            "initiator",
            "responder",
            "both",
            "none",
            "true",
            "sha-256",
            "sha-1",
            "AAAA",
            "AAB=",
            "AA==",
            "=",
            "A" * 70_000,
            "00:" * 31 + "00",
            "\u0660\u0660:" * 31 + "\u0660\u0660",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-23:59",
            "2026-02-30T00:00:00Z",
            "2026-01-01T24:00:00.999999999999Z",
            "2026-01-01T00:00:00+99:99",
            "0x7f000001",
            "127.1",
            "::1%lo",
            "::ffff:0.0.0.0",
            "a..b",
            ".",
            "\u202egpj.exe",
            "\u2066",
            "\x00",
            "\ud800",
            "\U0010ffff",
            "e\u0301",
            "x" * 257,
            "x" * 3072,
        )
    ),
    st.text(max_size=8),
    st.integers().map(str),
)

_NAMESPACES = (
    "",
    "jabber:client",
    "urn:xmpp:jingle:1",
    "urn:xmpp:jingle:apps:file-transfer:4",
    "urn:xmpp:jingle:apps:file-transfer:5",
    "urn:xmpp:jingle:transports:s5b:1",
    "urn:xmpp:jingle:transports:ibb:1",
    "urn:xmpp:jingle:security:xtls:0",
    "urn:x-telepathy-e2e:verification:0",
    "urn:xmpp:hashes:2",
    "}",
    "\u00e9",
)

_Change = Callable[[st.DrawFn, Element, Element], None]


def _drop(draw: st.DrawFn, parent: Element, child: Element) -> None:
    if child is not parent:
        parent.remove(child)


def _double(draw: st.DrawFn, parent: Element, child: Element) -> None:
    if child is not parent:
        for _ in range(draw(st.sampled_from((1, 1, 2, 20)))):
            parent.insert(draw(st.integers(0, len(parent))), deepcopy(child))


def _reorder(draw: st.DrawFn, parent: Element, child: Element) -> None:
    child[:] = draw(st.permutations(list(child)))


def _attribute(draw: st.DrawFn, parent: Element, child: Element) -> None:
    names = list(child.attrib) or ["id", "cid", "sid", "name", "algo", "length"]
    child.set(draw(st.sampled_from(names)), draw(VALUES))


def _forget(draw: st.DrawFn, parent: Element, child: Element) -> None:
    if child.attrib:
        del child.attrib[draw(st.sampled_from(list(child.attrib)))]


def _text(draw: st.DrawFn, parent: Element, child: Element) -> None:
    child.text = draw(st.none() | VALUES)


def _namespace(draw: st.DrawFn, parent: Element, child: Element) -> None:
    namespace = draw(st.sampled_from(_NAMESPACES))
    name = child.tag.rpartition("}")[2]
    child.tag = f"{{{namespace}}}{name}" if namespace else name


def _rename(draw: st.DrawFn, parent: Element, child: Element) -> None:
    if child is not parent:
        other = draw(st.sampled_from(list(parent)))
        child.tag = other.tag


_CHANGES: tuple[_Change, ...] = (
    _drop,
    _double,
    _reorder,
    _attribute,
    _attribute,
    _forget,
    _text,
    _namespace,
    _rename,
)


def _around(root: Element) -> list[tuple[Element, Element]]:
    """(parent, child) of every element; the root is its own parent."""
    return [(root, root), *((parent, child) for parent in root.iter() for child in parent)]


@st.composite
def mutated_element(draw: st.DrawFn, originals: Sequence[Element], most: int = 5) -> Element:
    """One of these with some children dropped, doubled, reordered, renamed or in another
    namespace, and attributes and texts replaced."""
    root = deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, most))):
        parent, child = draw(st.sampled_from(_around(root)))
        draw(st.sampled_from(_CHANGES))(draw, parent, child)
    if draw(st.integers(0, 19)) == 0:
        # Deeper than anything may be.
        _, child = draw(st.sampled_from(_around(root)))
        for _ in range(draw(st.sampled_from((25, 300)))):
            below = Element(child.tag)
            child.append(below)
            child = below
    return root


_CANDIDATES = (
    Candidate("c1", "192.0.2.1", 5000, "alice@example.test/a", 8257536, "direct"),
    Candidate("c2", "2001:db8::1", 1080, "proxy.example.test", 655360, "proxy"),
)

_OFFER = FileOffer(
    name="test.txt",
    size=6144,
    date=datetime(2026, 10, 1, 12, tzinfo=UTC),
    media_type="text/plain",
    description="a test",
    hashes={"sha-256": bytes(32), "sha3-512": bytes(64)},
    range=Range(1024, 512),
    hash_used=("sha-1",),
)

_BLOCKS = Sender("stream", 64).send(bytes(100))

#: Every stanza that we know a client sent, and every element that we build.
STANZAS: tuple[Element, ...] = (
    *(jingle_of(each["stanza"]) for each in VECTORS["stanzas"]),
    build_file(_OFFER),
    received("initiator", "file"),
    checksum({"sha-256": bytes(32)}, "initiator", "file"),
    build_s5b(Socks5Transport("stream", _CANDIDATES, "0" * 40)),
    build_s5b(Socks5Transport("stream", used="c1")),
    build_s5b(Socks5Transport("stream", activated="c2")),
    build_s5b(Socks5Transport("stream", candidate_error=True)),
    build_s5b(Socks5Transport("stream", proxy_error=True)),
    build_transport(InBandOffer("stream", 4096)),
    build_open(InBandOffer("stream", 4096)),
    build_close("stream"),
    *_BLOCKS,
)
