"""A peer that cheats in the password method: it has one guess a try, each try is seen."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path

import pytest

from telepathy_e2e.verify import messages
from telepathy_e2e.verify.pake import Party
from tests.peer.asking import ROLES, Asked, asked, completes
from tests.peer.bench import Bench
from tests.support.side import E2E, FILE_TRANSFER, VERIFICATION, DBusFailure

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

DAEMON = {"handles": (FILE_TRANSFER, VERIFICATION)}

SECRET = "the tall man's hat"
WRONG = ("password", "wrong-password", True)
LOW_ORDER = json.loads((Path(__file__).parents[1] / "vectors" / "xtls.json").read_text())[
    "cpace_refused_shares"
]
SHARES = pytest.mark.parametrize("share", [bytes.fromhex(each) for each in LOW_ORDER], ids=range(4))


async def heard(a: Asked, name: str) -> messages.Message:
    message = messages.parse(await a.secured.hear(name))
    assert isinstance(message, messages.Message)
    return message


async def user_starts(a: Asked, secret: str = SECRET) -> messages.Message:
    """The user here begins; the pake-start."""
    await a.user("StartPassword", secret)
    return await heard(a, "pake-start")


async def we_start(
    a: Asked, ceremony: str = "one", *, guess: str = SECRET, times: int = 1
) -> Party:
    """We begin and the user here is asked."""
    party = a.secured.party(ceremony, guess, starts=True)
    await a.secured.start_password(ceremony, party.share)
    await a.prompted(times)
    return party


async def user_replies(a: Asked, secret: str = SECRET) -> messages.Message:
    await a.user("StartPassword", secret)
    return await heard(a, "pake-reply")


async def reply(a: Asked, ceremony: str, share: bytes, tag: bytes) -> tuple[str, str]:
    return await a.secured.say(messages.build_reply(ceremony, share, tag))


async def never_said(a: Asked, *names: str) -> None:
    """Nothing of these came, by the time at which the answer to something later is there."""
    await a.bench.tick()
    assert not [each for each in a.secured.heard if each.tag.rpartition("}")[2] in names]


# -- honest, so that the rest means something --------------------------------------------------


@ROLES
async def test_a_password_that_the_peer_starts(bench: Bench, role: str) -> None:
    a = await asked(bench, role)
    party = await we_start(a)
    answer = await user_replies(a)
    party.meet(answer.content)
    assert party.knows(answer.tag)
    assert not await a.verified()
    assert await a.say("pake-confirm", "one", party.tag()) == ("", "")
    await completes(a, role)
    assert await bench.side.get(a.case.path, E2E, "VerifiedBy") == "password"


@ROLES
async def test_a_password_that_the_user_here_starts(bench: Bench, role: str) -> None:
    a = await asked(bench, role)
    start = await user_starts(a)
    party = a.secured.party(start.id or "", SECRET, starts=False)
    party.meet(start.content)
    assert await reply(a, start.id or "", party.share, party.tag()) == ("", "")
    assert party.knows((await heard(a, "pake-confirm")).tag)
    await completes(a, role)
    assert await bench.side.get(a.case.path, E2E, "VerifiedBy") == "password"
    assert SECRET not in bench.log()


async def test_nobody_is_asked_for_a_password_that_the_peer_cannot_compare(bench: Bench) -> None:
    a = await asked(bench, methods=("sas",))
    methods = await bench.side.get(a.question, VERIFICATION, "Methods")
    assert methods == ["fingerprint", "sas"]
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await a.user("StartPassword", SECRET)


# -- guesses ----------------------------------------------------------------------------------


@ROLES
async def test_a_guess_of_who_starts_is_a_failed_try(bench: Bench, role: str) -> None:
    a = await asked(bench, role)
    party = await we_start(a, guess="a guess")
    answer = await user_replies(a)
    party.meet(answer.content)
    # This is all that he learns: that one guess was wrong.
    assert not party.knows(answer.tag)
    await a.say("pake-confirm", "one", party.tag())
    assert await a.cancelled() == ("one", "wrong-password")
    assert await a.failure() == WRONG
    assert await a.state() == "pending"
    assert not await a.verified()


@ROLES
async def test_a_guess_of_who_answers_is_a_failed_try(bench: Bench, role: str) -> None:
    a = await asked(bench, role)
    start = await user_starts(a)
    party = a.secured.party(start.id or "", "a guess", starts=False)
    party.meet(start.content)
    await reply(a, start.id or "", party.share, party.tag())
    assert await a.cancelled() == (start.id, "wrong-password")
    assert await a.failure() == WRONG
    await never_said(a, "pake-confirm")
    assert not await a.verified()


async def test_going_away_after_the_reply_again_and_again_is_as_many_tries(bench: Bench) -> None:
    """The reply has the answer to one guess in it, whether or not anything follows."""
    a = await asked(bench)
    for number in range(3):
        ceremony = f"guess{number}"
        await we_start(a, ceremony, guess=ceremony, times=number + 1)
        await user_replies(a)
        await a.say("cancel", ceremony, reason="refused")
        assert await a.failure(number + 1) == ("password", "refused", True)
    party = a.secured.party("more", SECRET, starts=True)
    await a.secured.start_password("more", party.share)
    assert await a.cancelled() == ("more", "refused")
    assert a.prompts() == 3
    for method, *arguments in (("StartPassword", SECRET), ("StartSAS",)):
        with pytest.raises(DBusFailure, match="NotAvailable"):
            await a.user(method, *arguments)
    await a.user("Accept", "fingerprint")
    await completes(a, "the daemon receives")


async def test_ten_a_day_close_it_for_a_contact_however_many_sessions_he_opens(
    bench: Bench,
) -> None:
    stranger = await bench.stranger()
    tries = 0
    while tries < 10:
        a = await asked(bench, peer=stranger)
        for number in range(min(3, 10 - tries)):
            await we_start(a, f"n{number}", guess="a guess", times=number + 1)
            await user_replies(a)
            await a.say("cancel", f"n{number}", reason="error")
            await a.failure(number + 1)
            tries += 1
        await a.user("Reject", "enough")
        await asyncio.wait([a.case.client])
    a = await asked(bench, peer=stranger)
    with pytest.raises(DBusFailure, match="Too many"):
        await a.user("StartPassword", SECRET)
    await a.secured.start_password("one", a.secured.party("one", SECRET, starts=True).share)
    assert await a.cancelled() == ("one", "refused")
    assert a.prompts() == 0


async def test_going_away_before_the_reply_is_no_try_but_bounded(bench: Bench) -> None:
    a = await asked(bench)
    for number in range(4):
        await we_start(a, f"n{number}", times=number + 1)
        await a.say("cancel", f"n{number}", reason="wrong-password")
        # Nobody can know that yet, so nobody is told so.
        assert await a.failure(number + 1) == ("password", "error", False)
    party = await we_start(a, "last", times=5)
    answer = await user_replies(a)
    party.meet(answer.content)
    await a.say("pake-confirm", "last", party.tag())
    await completes(a, "the daemon receives")


# -- shares -----------------------------------------------------------------------------------


@SHARES
async def test_a_share_of_low_order_gets_no_reply(bench: Bench, share: bytes) -> None:
    a = await asked(bench)
    await a.secured.start_password("one", share)
    await a.prompted()
    await a.user("StartPassword", SECRET)
    assert await a.cancelled() == ("one", "error")
    assert await a.failure() == ("password", "bad-share", False)
    await never_said(a, "pake-reply")
    assert await a.state() == "pending"


@SHARES
async def test_a_reply_of_low_order_gets_no_confirmation(bench: Bench, share: bytes) -> None:
    a = await asked(bench)
    start = await user_starts(a)
    await reply(a, start.id or "", share, bytes(64))
    assert await a.cancelled() == (start.id, "error")
    assert await a.failure() == ("password", "bad-share", True)
    await never_said(a, "pake-confirm")
    assert not await a.verified()


async def test_the_daemons_own_share_is_no_reply(bench: Bench) -> None:
    a = await asked(bench)
    start = await user_starts(a)
    await reply(a, start.id or "", start.content, secrets.token_bytes(64))
    assert await a.cancelled() == (start.id, "error")
    assert await a.failure() == ("password", "bad-share", True)
    assert not await a.verified()


async def test_the_daemons_own_share_in_another_writing_helps_nobody(bench: Bench) -> None:
    """The same point with the bit set that X25519 ignores."""
    a = await asked(bench)
    start = await user_starts(a)
    share = start.content[:-1] + bytes([start.content[-1] | 0x80])
    await reply(a, start.id or "", share, secrets.token_bytes(64))
    assert await a.cancelled() == (start.id, "wrong-password")
    assert not await a.verified()


async def test_the_daemons_own_tag_is_no_confirmation(bench: Bench) -> None:
    a = await asked(bench)
    await we_start(a, guess="unknown")
    answer = await user_replies(a)
    await a.say("pake-confirm", "one", answer.tag)
    assert await a.cancelled() == ("one", "wrong-password")
    assert await a.failure() == WRONG
    assert not await a.verified()


async def test_share_and_tag_through_a_second_ceremony_verify_nobody(bench: Bench) -> None:
    """His own start comes back as ours, under another id: the daemon answers it (it is the
    responder, and its user has given the password), and gets its own answer back."""
    a = await asked(bench)
    start = await user_starts(a)
    await a.secured.start_password("second", start.content)
    answer = await heard(a, "pake-reply")
    assert answer.id == "second"
    await reply(a, start.id or "", answer.content, answer.tag)
    await a.say("pake-confirm", "second", answer.tag)
    assert await a.cancelled() == ("second", "wrong-password")
    assert await a.failure() == WRONG
    assert not await a.verified()


async def test_one_session_of_the_user_answers_for_no_other(bench: Bench) -> None:
    """A relay with two sessions to the same user, who types the right word in both."""
    one, two = await asked(bench), await asked(bench)
    start = await user_starts(one)
    ceremony = start.id or ""
    await two.secured.start_password(ceremony, start.content)
    await two.prompted()
    answer = await user_replies(two)
    await reply(one, ceremony, answer.content, answer.tag)
    assert await one.cancelled() == (ceremony, "wrong-password")
    assert await one.failure() == WRONG
    assert not await one.verified()
    assert not await two.verified()


# -- order ------------------------------------------------------------------------------------


async def test_a_reply_to_nothing_changes_nothing(bench: Bench) -> None:
    a = await asked(bench)
    assert await reply(a, "none", bytes(32), bytes(64)) == ("", "")
    assert await a.say("pake-confirm", "none", bytes(64)) == ("", "")
    assert await a.state() == "pending"
    await never_said(a, "cancel")


@pytest.mark.parametrize("name", ["pake-reply", "pake-confirm", "pake-start"])
async def test_a_message_before_the_user_has_typed_ends_it(bench: Bench, name: str) -> None:
    a = await asked(bench)
    party = await we_start(a)
    if name == "pake-start":
        await a.secured.start_password("one", party.share)
    elif name == "pake-reply":
        await reply(a, "one", party.share, bytes(64))
    else:
        await a.say(name, "one", bytes(64))
    assert await a.cancelled() == ("one", "error")
    assert await a.failure() == ("password", "out-of-place", False)
    # The same id is not taken again.
    await a.secured.start_password("one", party.share)
    assert await a.cancelled() == ("one", "error")
    assert a.prompts() == 1


@pytest.mark.parametrize("name", ["pake-start", "sas-commit"])
async def test_a_second_start_is_told_busy(bench: Bench, name: str) -> None:
    a = await asked(bench)
    party = await we_start(a)
    for ceremony in ("two", "three"):
        await a.say(name, ceremony, bytes(32), suite="CPACE-X25519-SHA512")
        assert await a.cancelled() == (ceremony, "busy")
        if ceremony == "two":
            answer = await user_replies(a)
    party.meet(answer.content)
    await a.say("pake-confirm", "one", party.tag())
    await completes(a, "the daemon receives")


@ROLES
async def test_starts_that_cross_are_one_run_of_the_initiators(bench: Bench, role: str) -> None:
    a = await asked(bench, role)
    start = await user_starts(a)
    ours = a.secured.party("ours", SECRET, starts=True)
    await a.secured.start_password("ours", ours.share)
    if role == "the daemon receives":
        answer = await heard(a, "pake-reply")
        ours.meet(answer.content)
        assert ours.knows(answer.tag)
        await a.say("pake-confirm", "ours", ours.tag())
    else:
        party = a.secured.party(start.id or "", SECRET, starts=False)
        party.meet(start.content)
        await reply(a, start.id or "", party.share, party.tag())
        await heard(a, "pake-confirm")
    await completes(a, role)
    assert a.prompts() == 0
    assert a.failures() == []


async def test_a_gap_after_the_reply_is_a_failed_try(bench: Bench) -> None:
    a = await asked(bench)
    party = await we_start(a)
    answer = await user_replies(a)
    party.meet(answer.content)
    a.secured.sealer.seal(messages.build("cancel", "x", reason="busy"))
    assert await a.say("pake-confirm", "one", party.tag()) == ("bad-request", "")
    assert await a.cancelled() == ("one", "error")
    assert (await a.failure())[2] is True
    assert not await a.verified()


async def test_another_suite_is_refused_without_asking_anybody(bench: Bench) -> None:
    a = await asked(bench)
    for suite in ("CPACE-X448-SHAKE256", ""):
        await a.say("pake-start", f"one{suite}", bytes(56), suite=suite)
        assert await a.cancelled() == (f"one{suite}", "refused")
    assert a.prompts() == 0


@pytest.mark.parametrize("size", [0, 31, 33, 10_000])
async def test_shares_and_tags_of_another_size_are_malformed(bench: Bench, size: int) -> None:
    a = await asked(bench)
    bad = ("bad-request", "")
    assert await a.secured.start_password("one", bytes(size)) == bad
    assert a.prompts() == 0
    start = await user_starts(a)
    ceremony = start.id or ""
    assert await reply(a, ceremony, bytes(size), bytes(64)) == bad
    assert await reply(a, ceremony, bytes(32), bytes(size)) == bad
    # None of it was looked at: no try, and the run goes on.
    party = a.secured.party(ceremony, SECRET, starts=False)
    party.meet(start.content)
    await reply(a, ceremony, party.share, party.tag())
    await heard(a, "pake-confirm")
    await completes(a, "the daemon receives")
