"""The password method's computations: the draft's vectors, ours, and what they are bound to."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import cpace
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.role import Role
from telepathy_e2e.verify import pake
from tests.unit.verify_support import BINDING, FI, FR, scalars

VECTORS = Path(__file__).parent.parent / "vectors"
SHARED = Path(__file__).parents[2].parent / "shared" / "xtls-vectors.json"
DRAFT = json.loads((VECTORS / "cpace-draft.json").read_text())
XTLS = json.loads((VECTORS / "xtls.json").read_text())


def octets(vector: dict[str, str], *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


def lv_cat(*parts: bytes) -> bytes:
    """The draft's; lengths below 128 are one byte."""
    return b"".join(bytes([len(part)]) + part for part in parts)


# -- the package against the draft --------------------------------------------------------------


def test_the_package_computes_what_the_draft_computes() -> None:
    prs, ci, sid, g, ya, ad_a, y_a, yb, ad_b, y_b, isk, sid_output = octets(
        DRAFT["G_X25519"],
        *("PRS", "CI", "sid", "g", "ya", "ADa", "Ya", "yb", "ADb", "Yb", "ISK_IR", "sid_output_ir"),
    )
    assert cpace._calculate_generator(prs, ci, sid) == g
    sides = []
    for role, scalar, ad, share in (
        (cpace.CPaceRole.INITIATOR, ya, ad_a, y_a),
        (cpace.CPaceRole.RESPONDER, yb, ad_b, y_b),
    ):
        with scalars(scalar):
            side = cpace.CPace.start(role=role, prs=prs, sid=sid, ci=ci, ad=ad)
        assert side.public_share == share
        sides.append(side)
    a, b = sides
    a.derive(y_b, ad_b)
    b.derive(y_a, ad_a)
    assert a.isk == b.isk == isk
    assert a.sid_output == b.sid_output == sid_output
    # "Key confirmation" in the draft has no vectors; this is its text.
    key = hashlib.sha512(b"CPaceMac" + sid + isk).digest()
    assert a.tag() == hmac.digest(key, lv_cat(y_a, ad_a), "sha512")
    assert b.tag() == hmac.digest(key, lv_cat(y_b, ad_b), "sha512")
    assert a.verify(b.tag())
    assert b.verify(a.tag())
    assert not a.verify(a.tag())
    assert not b.verify(b.tag())


@pytest.mark.parametrize("point", DRAFT["scalar_mult_vfy"]["points"], ids=lambda p: p["u"][:4])
def test_the_package_refuses_exactly_the_low_order_points(point: dict[str, str]) -> None:
    (s,) = octets(DRAFT["scalar_mult_vfy"], "s")
    u, q = octets(point, "u", "q")
    side = cpace.CPace(
        role=cpace.CPaceRole.INITIATOR, sid=b"", ad=b"", scalar=s, public_share=b"x" * 32
    )
    if q == bytes(32):
        with pytest.raises(cpace.CPaceError):
            side.derive(u)
    else:
        side.derive(u)
        transcript = lv_cat(b"x" * 32, b"") + lv_cat(u, b"")
        isk = hashlib.sha512(lv_cat(b"CPace255_ISK", b"", q) + transcript).digest()
        assert side.isk == isk


# -- ours against our vectors ------------------------------------------------------------------


def vectors(name: str) -> list[Any]:
    """Our own copy, and the shared one where there is one."""
    found = [pytest.param(each, id=f"ours-{i}") for i, each in enumerate(XTLS[name])]
    if SHARED.exists():
        shared = json.loads(SHARED.read_text())[name]
        found += [pytest.param(each, id=f"shared-{i}") for i, each in enumerate(shared)]
    else:
        missing = pytest.mark.skip(reason="the shared vectors are not here")
        found.append(pytest.param(None, id="shared", marks=missing))
    return found


def parties(vector: dict[str, str]) -> tuple[pake.Party, pake.Party]:
    """Starter and other, with the scalars of the vector."""
    role = Role(vector["jingle_role_of_starter"])
    (binding, ci) = octets(vector, "B", "CI")
    made = []
    for who, whose in (("starter", role), ("other", role.other)):
        with scalars(bytes.fromhex(vector[f"scalar_of_{who}"])):
            made.append(
                pake.Party(
                    starts=who == "starter",
                    role=whose,
                    binding=binding,
                    ceremony=vector["id"],
                    initiator_fingerprint=ci[-68:-36],
                    responder_fingerprint=ci[-32:],
                    secret=pake.password_related_string(vector[f"password_of_{who}"]),
                )
            )
    return made[0], made[1]


@pytest.mark.parametrize("vector", vectors("cpace"))
def test_everything_on_the_wire_is_that_of_the_vector(vector: dict[str, Any]) -> None:
    role = Role(vector["jingle_role_of_starter"])
    sid, ci, ad_a, ad_b = octets(vector, "sid", "CI", "ADa", "ADb")
    assert pake.session_id(bytes.fromhex(vector["B"]), vector["id"]) == sid
    assert pake.channel_identifier(ci[-68:-36], ci[-32:]) == ci
    assert pake.associated_data(role, vector["id"]) == ad_a
    assert pake.associated_data(role.other, vector["id"]) == ad_b
    for who in ("starter", "other"):
        prs = pake.password_related_string(vector[f"password_of_{who}"])
        assert prs.hex() == vector[f"PRS_of_{who}"]
    starter, other = parties(vector)
    assert starter.share.hex() == vector["pake_start_share"]
    assert other.share.hex() == vector["pake_reply_share"]
    starter.meet(other.share)
    other.meet(starter.share)
    assert other.tag().hex() == vector["pake_reply_tag"]
    assert starter.tag().hex() == vector["pake_confirm_tag"]
    assert len(starter.tag()) == pake.TAG_SIZE
    assert starter.knows(other.tag()) is vector["same_password"]
    assert other.knows(starter.tag()) is vector["same_password"]


@pytest.mark.parametrize("share", vectors("cpace_refused_shares"))
@pytest.mark.parametrize("starts", [True, False])
def test_shares_of_low_order_are_refused(share: str, starts: bool) -> None:
    with pytest.raises(pake.RefusedShare):
        party(starts=starts).meet(bytes.fromhex(share))


# -- what a run is bound to ---------------------------------------------------------------------


def party(**changes: Any) -> pake.Party:
    given: dict[str, Any] = {
        "starts": True,
        "role": Role.INITIATOR,
        "binding": BINDING,
        "ceremony": "p1",
        "initiator_fingerprint": FI,
        "responder_fingerprint": FR,
        "secret": b"open sesame",
        **changes,
    }
    return pake.Party(**given)


def meeting(one: pake.Party, two: pake.Party) -> list[bool]:
    one.meet(two.share)
    two.meet(one.share)
    return [one.knows(two.tag()), two.knows(one.tag())]


ANSWERS = {"starts": False, "role": Role.RESPONDER}


def test_two_who_agree_on_everything_know_it() -> None:
    assert meeting(party(), party(**ANSWERS)) == [True, True]


@pytest.mark.parametrize(
    "change",
    [
        {"secret": b"open sesamE"},
        {"binding": b"x" * 32},
        {"ceremony": "p2"},
        {"initiator_fingerprint": b"x" * 32},
        {"responder_fingerprint": b"x" * 32},
        {"initiator_fingerprint": FR, "responder_fingerprint": FI},
        {"role": Role.INITIATOR},
        {"starts": True},
    ],
    ids=str,
)
def test_each_ingredient_counts(change: dict[str, Any]) -> None:
    assert meeting(party(), party(**{**ANSWERS, **change})) == [False, False]


@pytest.mark.parametrize("starts", [True, False])
def test_our_own_share_is_refused(starts: bool) -> None:
    made = party(starts=starts)
    with pytest.raises(pake.RefusedShare):
        made.meet(made.share)


def test_a_share_of_another_length_is_refused() -> None:
    for size in (0, 31, 33):
        with pytest.raises(pake.RefusedShare):
            party().meet(b"\x09" * size)


def test_our_own_tag_proves_nothing_even_if_our_share_comes_back_in_another_writing() -> None:
    made = party()
    # The same point: X25519 ignores the highest bit, so bytes differ where points do not.
    made.meet(made.share[:-1] + bytes([made.share[-1] | 0x80]))
    assert not made.knows(made.tag())


def test_tags_are_compared_whole() -> None:
    one, two = party(), party(**ANSWERS)
    assert all(meeting(one, two))
    for wrong in (b"", two.tag()[:-1], two.tag() + b"x", bytes(64)):
        assert not one.knows(wrong)


def test_shares_are_fresh() -> None:
    assert len({party().share for _ in range(20)}) == 20


# -- passwords ----------------------------------------------------------------------------------

# Unicode's PropList.txt: White_Space.
WHITE_SPACE = {
    *range(0x9, 0xE),
    *(0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000),
    *range(0x2000, 0x200B),
}


def test_exactly_unicodes_white_space_is_taken_off_both_ends() -> None:
    assert set(map(ord, pake.WHITE_SPACE)) == WHITE_SPACE
    for code in WHITE_SPACE:
        assert pake.password_related_string(f"{chr(code)}a b{chr(code)}\n") == b"a b"
    for code in (0x1C, 0x1D, 0x1E, 0x1F, 0x200B, 0xFEFF, 0x0):
        assert pake.password_related_string(f"{chr(code)}a").decode() == f"{chr(code)}a"


def test_what_looks_alike_is_alike_and_what_differs_differs() -> None:
    prs = pake.password_related_string
    assert prs("cafe\u0301") == prs("caf\u00e9") == "caf\u00e9".encode()
    assert prs("\u212b") == prs("\u00c5")
    assert prs("Sesame") != prs("sesame")
    assert prs("a  b") != prs("a b")
    assert prs("\ufb01") != prs("fi")  # canonical forms only


@pytest.mark.parametrize("empty", ["", " ", "\n\t", "\u3000\u00a0"])
def test_an_empty_password_is_refused(empty: str) -> None:
    with pytest.raises(InvalidArgument):
        pake.password_related_string(empty)


def test_the_longest_password_is_bounded() -> None:
    assert pake.password_related_string("x" * pake.MAX_PASSWORD)
    with pytest.raises(InvalidArgument) as caught:
        pake.password_related_string("x" * (pake.MAX_PASSWORD + 1))
    assert "xx" not in str(caught.value)


def test_what_is_no_text_is_refused_without_being_repeated() -> None:
    with pytest.raises(InvalidArgument) as caught:
        pake.password_related_string("sesame\ud800")
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@given(st.text(min_size=1, max_size=50))
def test_two_readings_of_the_same_text_agree(text: str) -> None:
    try:
        prs = pake.password_related_string(text)
    except InvalidArgument:
        return
    assert pake.password_related_string(f" \n{prs.decode()}\t ") == prs


def test_a_password_is_not_in_what_is_shown_of_a_party() -> None:
    made = party()
    assert "sesame" not in repr(made) + repr(vars(made)) + repr(made._cpace)
    assert all(
        b"sesame" not in value
        for value in (getattr(made._cpace, name, b"") for name in made._cpace.__slots__)
        if isinstance(value, bytes)
    )
