"""A server that changes what a data channel's protection is made of, and people who verify one."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from xml.etree.ElementTree import Element

import pytest

from tests.hostile.attacks import (
    ANSWER,
    OFFER,
    AddFingerprint,
    ChangeContent,
    ChangeFingerprint,
    RemoveSecurity,
    Step,
)
from tests.hostile.calls import DTLS, ChangeDtlsFingerprint, SetupIs
from tests.hostile.stage import (
    BOTH_HANDLE_QUESTIONS,
    CANCELLED,
    COMPLETED,
    DEMAND_VERIFIED,
    LONGEST,
    Stage,
    assert_found_out,
    assert_nothing_delivered,
)
from tests.hostile.stanzas import XTLS
from tests.support.prosody import available
from tests.support.side import E2E, VERIFICATION, Side

pytest_plugins = ["tests.hostile.fixtures"]
pytestmark = [
    pytest.mark.skipif(not available(), reason="prosody is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

DATA = secrets.token_bytes(200_000)
DAEMONS = {"TELEPATHY_E2E_ROADS": "ice", "TELEPATHY_E2E_MEDIA_LOOPBACK": "1"}
STAGE = BOTH_HANDLE_QUESTIONS


class ChangeBoth(ChangeContent):
    """The session and its transport name one certificate, which is another one."""

    def change(self, content: Element) -> None:
        other = secrets.token_bytes(32).hex(":").upper()
        for name in (f"{{{XTLS}}}fingerprint", DTLS):
            for fingerprint in content.iter(name):
                fingerprint.text = other


class AddDtlsFingerprint(ChangeContent):
    """A further fingerprint by another hash, which fits nothing."""

    def change(self, content: Element) -> None:
        for transport in list(content.iter()):
            for fingerprint in transport.findall(DTLS):
                extra = Element(DTLS, {**fingerprint.attrib, "hash": "sha-512"})
                extra.text = bytes(64).hex(":").upper()
                transport.append(extra)


@pytest.mark.parametrize("where", [OFFER, ANSWER])
@pytest.mark.parametrize(
    "kind",
    [
        ChangeFingerprint,
        AddFingerprint,
        ChangeDtlsFingerprint,
        AddDtlsFingerprint,
        ChangeBoth,
        pytest.param(lambda where: SetupIs(where, None), id="no role"),
        pytest.param(lambda where: SetupIs(where, "holdconn"), id="a role that is none"),
    ],
)
async def test_a_change_is_found_out(
    stage: Stage, kind: Callable[[Step], ChangeContent], where: Step
) -> None:
    attack = kind(where)
    await stage.server.use(attack)
    outcome = await stage.transfer(DATA)
    assert attack.done
    assert_found_out(outcome)


@pytest.mark.parametrize("where", [OFFER, ANSWER])
async def test_without_what_protects_it_there_is_no_data_channel(stage: Stage, where: Step) -> None:
    await stage.server.use(RemoveSecurity(where))
    if where == OFFER:
        target = stage.pair.server.jid("bob")
        mine = await stage.alice.offer_file(target, "file.bin", len(DATA))
        assert (await stage.alice.state(mine, CANCELLED, timeout=LONGEST))[0] == CANCELLED
        return
    outcome = await stage.transfer(DATA)
    assert_nothing_delivered(outcome)
    assert not any(end.encrypted for end in outcome.ends)


async def test_two_people_verify_a_data_channel_by_comparing_words(stage: Stage) -> None:
    attempt = await stage.begin(DATA, DEMAND_VERIFIED)
    hers, his = await attempt.questions()
    await stage.alice.cm(hers, VERIFICATION, "StartSAS")
    await stage.bob.signal(lambda s: s.path == his and s.member == "PeerStarted")
    await stage.bob.cm(his, VERIFICATION, "StartSAS")
    assert await string(stage.alice, hers) == await string(stage.bob, his)
    await stage.alice.cm(hers, VERIFICATION, "ConfirmSAS", "b", True)
    await stage.bob.cm(his, VERIFICATION, "ConfirmSAS", "b", True)
    outcome = await attempt.ended()
    assert outcome.got == DATA
    for end in outcome.ends:
        assert (end.state, end.encrypted, end.verified) == (COMPLETED, True, True), outcome.told
    assert await stage.alice.get(attempt.mine, E2E, "Protocol") == "dtls-sctp"


async def string(side: Side, path: str) -> str:
    """What this side shows."""
    found = await side.signal(
        lambda s: (
            s.path == path
            and s.member == "PropertiesChanged"
            and bool(s.body[1].get("ShortAuthenticationString"))
        )
    )
    return str(found.body[1]["ShortAuthenticationString"])
