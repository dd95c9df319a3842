"""An address has one spelling: what ``normalise`` returns it returns again.

What is no address raises ValueError; that holds for everything
that anybody may type, scan or send. The parts put together are the whole. The URI of a key raises
InvalidArgument alone, names an address in the same spelling, and comes back from its own text.
"""

from __future__ import annotations

from contextlib import suppress

from hypothesis import assume, example, given
from hypothesis import strategies as st

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.xmpp.jid import (
    MAX_PART,
    ascii_domain,
    bare,
    domain_of,
    local_of,
    normalise,
    resource_of,
)
from telepathy_e2e.xtls.uri import enforced, make_uri, parse_uri

from .support import VALUES, budget

_PIECES = st.sampled_from(
    (
        "a", "A", "@", "/", ".", "-", "_", " ", "xn--", "xn--a", "xn--strae-oqa", "xn--99999999",
        "stra\u00dfe", "\u00df", "\u1e9e", "\u0130", "\u0131", "I", "\u03a3", "\u03c2", "\u212b",
        "\uff21", "\uff0e", "\u3002", "\uff20", "\uff0f", "e\u0301", "\u00e9", "\u0301", "\u0345",
        "\u0390", "\u1f80", "\ufb01", "\uff76", "\uff9e", "\u30ab\u3099", "\u1100", "\u1161",
        "\uac00", "\u2126", "\u017f", "\u200d", "\u00b7", "\u30fb", "\u0660", "\u06f0", "[::1]",
        "[", "]", ":", "&", "'", "\x00", "\x7f", "\ud800", "\u00a0", "\u3000", "\u2028", "\x1f",
        "\x1c", "\U00010400", "\U00010428", "\u13a0", "\uab70", "\u10a0", "x" * 63, "y" * 1023,
        "\u00e9" * 60,
    )
)  # fmt: skip
_PART = st.lists(_PIECES | st.characters(), min_size=1, max_size=5).map("".join)

ADDRESSES = st.one_of(
    st.lists(_PIECES | st.text(max_size=3), max_size=8).map("".join),
    st.tuples(_PART, _PART).map("@".join),
    st.tuples(_PART, _PART, _PART).map(lambda each: "{}@{}/{}".format(*each)),
    VALUES,
)


@budget(4)
@given(ADDRESSES)
@example("a@xn--")
@example("a@xn---")
@example("a@xn--.b")
@example("a@xn--a-")
@example("a@[::1]")
@example("\u0130@a")
@example("a@b/\u3000")
@example("a@b/x\u00a0")
def test_an_address_has_one_spelling_or_is_none(text: str) -> None:
    try:
        jid = normalise(text)
    except ValueError:
        return
    assert normalise(jid) == jid
    assert normalise(bare(jid)) == bare(jid)
    local, domain, resource = local_of(jid), domain_of(jid), resource_of(jid)
    whole = f"{local}@{domain}" if local else domain
    assert (f"{whole}/{resource}" if resource else whole) == jid
    for part in (local, domain, resource):
        assert len(part.encode()) <= MAX_PART
    assert "@" not in local
    assert "/" not in local + domain
    assert domain
    assert ascii_domain(domain).isascii()


@budget(1)
@given(ADDRESSES, st.binary(min_size=32, max_size=32))
def test_the_uri_of_a_key_comes_back_from_its_own_text(text: str, digest: bytes) -> None:
    jid = ""
    with suppress(ValueError):
        jid = bare(normalise(text))
    assume(jid)
    assert enforced(jid) == jid
    assert parse_uri(make_uri(jid, digest)) == (jid, digest)


@budget(2)
@given(
    st.tuples(
        st.sampled_from(("xmpp:", "XMPP:", "xmpp://", "", "xmpp")),
        st.one_of(ADDRESSES, st.text("%0aFf@/?#;=", max_size=12)),
        st.sampled_from(("?x-e2e-verify", "?", "", "?x-e2e-verify;spki-sha-256")),
        st.sampled_from((";spki-sha-256=", ";", "=", "")),
        st.sampled_from(("00" * 32, "00" * 31, "AA" * 32, "", "\u0660" * 64)),
    ).map("".join)
)
def test_no_scanned_text_raises_anything_but_invalid_argument(uri: str) -> None:
    try:
        jid, digest = parse_uri(uri)
    except InvalidArgument:
        return
    assert len(digest) == 32
    assert "/" not in jid
    assert enforced(jid) == jid
