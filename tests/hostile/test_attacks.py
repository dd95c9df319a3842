"""Each attack on stanzas does what its name says, and nothing else."""

from __future__ import annotations

import base64
import copy
import hashlib
from xml.etree.ElementTree import Element, SubElement, tostring

import pytest

from telepathy_e2e.xmpp import caps
from tests.hostile import stanzas
from tests.hostile.attacks import (
    ANSWER,
    INITIATOR,
    OFFER,
    RESPONDER,
    AddFingerprint,
    AlterSealed,
    ChangeContent,
    ChangeFileName,
    ChangeFileSize,
    ChangeFingerprint,
    DropSealed,
    ForgeCapabilities,
    OldAccept,
    OnSealed,
    ReflectSealed,
    RemoveSecurity,
    RenumberSealed,
    ReorderSealed,
    RepeatAccept,
    RepeatSealed,
    Step,
)
from tests.hostile.server import Attack
from tests.hostile.stanzas import CAPS, DISCO_INFO, FILES, JINGLE, S5B, VERIFICATION, XTLS

ALICE, BOB = "alice@example.test/a", "bob@example.test/b"
DIGEST = hashlib.sha256(b"leaf").digest().hex(":").upper()


def step(action: str, sid: str = "s", digest: str = DIGEST) -> Element:
    """An offer of Alice's or an answer of Bob's."""
    content = Element(f"{{{JINGLE}}}content", {"creator": "initiator", "name": "file"})
    file = SubElement(SubElement(content, f"{{{FILES}}}description"), f"{{{FILES}}}file")
    SubElement(file, f"{{{FILES}}}name").text = "a.txt"
    SubElement(file, f"{{{FILES}}}size").text = "100"
    SubElement(content, f"{{{S5B}}}transport", {"sid": f"road of {sid}"})
    security = SubElement(content, f"{{{XTLS}}}security")
    SubElement(security, f"{{{XTLS}}}fingerprint", {"hash": "sha-256"}).text = digest
    jids = (ALICE, BOB) if action == OFFER else (BOB, ALICE)
    return stanzas.jingle_set(*jids, sid, action, content)


def seal(sender: str, number: int, data: bytes = b"sealed") -> Element:
    receiver = BOB if sender == ALICE else ALICE
    sealed = Element(stanzas.SEALED, {"epoch": "0", "n": str(number)})
    sealed.text = base64.b64encode(data).decode()
    return stanzas.jingle_set(sender, receiver, "s", "security-info", sealed)


def play(attack: Attack, *played: Element) -> list[Element]:
    return [out for each in played for out in attack.stanza(copy.deepcopy(each))]


def texts(element: Element, tag: str) -> list[str]:
    return [each.text or "" for each in element.iter(tag)]


@pytest.mark.parametrize(
    ("kind", "tag"),
    [
        (ChangeFingerprint, f"{{{XTLS}}}fingerprint"),
        (AddFingerprint, f"{{{XTLS}}}fingerprint"),
        (ChangeFileName, f"{{{FILES}}}name"),
        (lambda where: ChangeFileSize(where, 1), f"{{{FILES}}}size"),
        (RemoveSecurity, f"{{{XTLS}}}fingerprint"),
    ],
)
@pytest.mark.parametrize("where", [OFFER, ANSWER])
def test_one_step_is_changed_and_the_other_is_left(
    kind: type[ChangeContent], tag: str, where: Step
) -> None:
    attack = kind(where)
    sent = {OFFER: step(OFFER), ANSWER: step(ANSWER)}
    for action, stanza in sent.items():
        (got,) = play(attack, stanza)
        assert (texts(got, tag) == texts(stanza, tag)) is (action != where)
    assert attack.done == 1


def test_a_changed_fingerprint_still_looks_like_one() -> None:
    for digest in ("00" + DIGEST[2:], "A0" + DIGEST[2:]):
        (got,) = play(ChangeFingerprint(OFFER), step(OFFER, digest=digest))
        (text,) = texts(got, f"{{{XTLS}}}fingerprint")
        assert text != digest
        assert len(bytes.fromhex(text.replace(":", ""))) == 32


def test_an_accept_is_repeated_once_and_under_another_id() -> None:
    accept = step(ANSWER)
    got = play(RepeatAccept("security-info"), accept, seal(BOB, 0), seal(BOB, 1))
    actions = [found.get("action") for each in got for found in each.iter(f"{{{JINGLE}}}jingle")]
    assert actions == [ANSWER, "security-info", ANSWER, "security-info"]
    assert got[2].get("id") != accept.get("id")
    assert tostring(got[2][0]) == tostring(accept[0])


@pytest.mark.parametrize("fresh", [True, False])
def test_an_old_accept_takes_the_place_of_a_new_one(fresh: bool) -> None:
    attack = OldAccept(fresh_road=fresh)
    new = step(ANSWER, "new", DIGEST[::-1])
    first, _, got = play(attack, step(ANSWER, "old"), step(OFFER, "new"), new)
    assert texts(first, f"{{{XTLS}}}fingerprint") == [DIGEST]
    assert texts(got, f"{{{XTLS}}}fingerprint") == [DIGEST]
    assert got.get("id") == new.get("id")
    found = stanzas.jingle(got)
    assert found is not None
    assert found.get("sid") == "new"
    road = next(got.iter(f"{{{S5B}}}transport")).get("sid")
    assert road == ("road of new" if fresh else "road of old")


def test_an_old_accept_can_come_before_anybody_accepted() -> None:
    attack = OldAccept(early=True)
    _, offer, early = play(attack, step(ANSWER, "old"), step(OFFER, "new"))
    assert (stanzas.jingle(offer, OFFER), stanzas.jingle(early, ANSWER)) != (None, None)
    assert early.get("to") == ALICE


def numbers(got: list[Element]) -> list[str]:
    return [sealed.get("n", "") for each in got if (sealed := stanzas.sealed(each)) is not None]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (DropSealed, ["0", "2"]),
        (RepeatSealed, ["0", "1", "1", "2"]),
        (ReorderSealed, ["0", "2", "1"]),
        (RenumberSealed, ["0", "2", "2"]),
        (ReflectSealed, ["0", "1", "1", "2"]),
    ],
)
@pytest.mark.parametrize(("role", "sender"), [(INITIATOR, ALICE), (RESPONDER, BOB)])
def test_one_sealed_message_of_one_side_is_touched(
    kind: type[OnSealed], expected: list[str], role: str, sender: str
) -> None:
    attack = kind(role, 1)
    play(attack, step(OFFER))
    other = BOB if sender == ALICE else ALICE
    assert numbers(play(attack, *(seal(other, n) for n in range(3)))) == ["0", "1", "2"]
    assert numbers(play(attack, *(seal(sender, n) for n in range(3)))) == expected
    assert attack.done == 1


@pytest.mark.parametrize("byte", [0, -1])
def test_one_bit_of_one_message_is_another(byte: int) -> None:
    attack = AlterSealed(INITIATOR, 0, byte)
    _, got = play(attack, step(OFFER), seal(ALICE, 0))
    sealed = stanzas.sealed(got)
    assert sealed is not None
    changed = bytes(
        a ^ b for a, b in zip(base64.b64decode(sealed.text or ""), b"sealed", strict=True)
    )
    assert sum(each.bit_count() for each in changed) == 1
    assert changed[byte] == 1


def test_what_is_dropped_is_acknowledged() -> None:
    sent = seal(ALICE, 0)
    _, got = play(DropSealed(INITIATOR, 0), step(OFFER), sent)
    assert (got.get("type"), got.get("to"), got.get("id")) == ("result", ALICE, sent.get("id"))


def test_forged_capabilities_fit_their_hash() -> None:
    attack = ForgeCapabilities()
    presence = Element("presence", {"from": BOB, "to": ALICE})
    SubElement(presence, f"{{{CAPS}}}c", {"hash": "sha-1", "node": "http://e2e", "ver": "true"})
    (got,) = play(attack, presence)
    shown = got[0].get("ver")
    assert shown != "true"
    query = Element("iq", {"type": "get", "id": "q", "from": ALICE, "to": BOB})
    SubElement(query, f"{{{DISCO_INFO}}}query", {"node": f"{ForgeCapabilities.NODE}#{shown}"})
    (answer,) = play(attack, query)
    assert (answer.get("from"), answer.get("to")) == (BOB, ALICE)
    info = caps.parse_info(answer[0])
    assert caps.ver(info, "sha-1") == shown
    assert not {XTLS, VERIFICATION} & info.features
