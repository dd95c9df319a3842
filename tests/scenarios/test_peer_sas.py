"""A peer that cheats while people compare short strings. Nobody is verified who should not be."""

from __future__ import annotations

import pytest

from telepathy_e2e.verify import messages
from tests.peer.asking import DATA, ROLES, asked, completes, nonce
from tests.peer.bench import LOCAL_STOPPED, REMOTE_ERROR, Bench
from tests.support.side import E2E, FILE_TRANSFER, VERIFICATION, DBusFailure

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

DAEMON = {"handles": (FILE_TRANSFER, VERIFICATION)}

# As in verify/ceremony.py.
MAX_PEER_STARTS = 32


# -- honest, so that the rest means something --------------------------------------------------


@ROLES
async def test_a_comparison_that_the_peer_starts(bench: Bench, role: str) -> None:
    a = await asked(bench, role)
    ours = nonce()
    text = await a.compare("one", ours)
    assert await a.string() == text
    await a.user("ConfirmSAS", True)
    result = await a.secured.hear("sas-result")
    assert result.get("match") == "true"
    assert await a.verified()
    await a.say("sas-result", "one", match="true")
    await completes(a, role)
    assert await bench.side.get(a.case.path, E2E, "VerifiedBy") == "sas"


@ROLES
async def test_a_comparison_that_the_user_here_starts(bench: Bench, role: str) -> None:
    a = await asked(bench, role)
    await a.user("StartSAS")
    commit = await a.secured.hear("sas-commit")
    ceremony, ours = commit.get("id", ""), nonce()
    assert await a.say("sas-nonce", ceremony, ours) == ("", "")
    reveal = messages.parse(await a.secured.hear("sas-reveal"))
    assert isinstance(reveal, messages.Message)
    assert await a.string() == a.secured.string(ceremony, ours, reveal.content)
    await a.user("ConfirmSAS", True)
    await completes(a, role)


# -- cheating ---------------------------------------------------------------------------------


async def test_a_reveal_that_was_not_promised_shows_no_string(bench: Bench) -> None:
    """Else the peer could look for a nonce that gives the string he needs."""
    a = await asked(bench)
    await a.secured.commit("one", nonce())
    await a.prompted()
    await a.user("StartSAS")
    await a.secured.hear("sas-nonce")
    await a.say("sas-reveal", "one", nonce())
    assert await a.cancelled() == ("one", "error")
    assert not a.saw_a_string()
    assert not await a.verified()
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await a.user("ConfirmSAS", True)
    assert await a.state() == "pending"


async def test_a_promise_by_the_other_role_is_not_one(bench: Bench) -> None:
    """The starter's role is in the commitment, so that ours cannot be sent back to us."""
    a = await asked(bench)
    await a.user("StartSAS")
    commit = messages.parse(await a.secured.hear("sas-commit"))
    assert isinstance(commit, messages.Message)
    assert commit.id is not None
    await a.say("sas-commit", commit.id, commit.content)
    assert (await a.cancelled())[1] in ("error", "busy")
    assert not a.saw_a_string()


async def test_a_reveal_before_the_user_agreed_ends_it(bench: Bench) -> None:
    a = await asked(bench)
    ours = nonce()
    await a.secured.commit("one", ours)
    await a.prompted()
    await a.say("sas-reveal", "one", ours)
    assert await a.cancelled() == ("one", "error")
    assert not a.saw_a_string()
    assert await a.state() == "pending"


async def test_a_nonce_that_is_revealed_twice_ends_it(bench: Bench) -> None:
    """A second one would be a second guess at the string."""
    a = await asked(bench)
    ours = nonce()
    await a.compare("one", ours)
    await a.string()
    await a.say("sas-reveal", "one", nonce())
    assert await a.cancelled() == ("one", "error")
    assert await a.failure() == ("sas", "out-of-place", True)
    assert not await a.verified()
    await a.user("Reject", "it cheats")
    await a.ends(LOCAL_STOPPED)


@pytest.mark.parametrize("agreed", [False, True], ids=["asked", "agreed"])
async def test_a_yes_before_the_string_ends_it(bench: Bench, agreed: bool) -> None:
    a = await asked(bench)
    await a.secured.commit("one", nonce())
    await a.prompted()
    if agreed:
        await a.user("StartSAS")
        await a.secured.hear("sas-nonce")
    await a.say("sas-result", "one", match="true")
    assert await a.cancelled() == ("one", "error")
    assert not a.saw_a_string()
    assert not await a.verified()


async def test_a_no_before_the_string_is_a_no(bench: Bench) -> None:
    a = await asked(bench)
    await a.secured.commit("one", nonce())
    await a.prompted()
    await a.say("sas-result", "one", match="false")
    await a.ends(LOCAL_STOPPED)


async def test_a_yes_of_the_peer_alone_verifies_nobody(bench: Bench) -> None:
    a = await asked(bench)
    await a.compare("one", nonce())
    await a.string()
    assert await a.say("sas-result", "one", match="true") == ("", "")
    assert await a.secured.say(messages.build_verdict("verified", "sas")) == ("", "")
    await a.bench.tick()
    assert not await a.verified()
    assert await a.state() == "comparing"
    await a.secured.write(DATA)
    await a.bench.tick()
    assert a.case.got == b""
    assert not bench.opened(a.case)


async def test_a_no_after_our_yes_ends_it(bench: Bench) -> None:
    a = await asked(bench)
    await a.compare("one", nonce())
    await a.string()
    await a.user("ConfirmSAS", True)
    await a.secured.hear("sas-result")
    assert await a.verified()
    await a.say("sas-result", "one", match="false")
    await bench.failed(a.case, REMOTE_ERROR, "security-error")
    await bench.got_nothing(a.case)
    assert not await a.verified()
    assert await bench.side.get(a.case.path, E2E, "VerifiedBy") == ""


async def test_the_no_of_the_user_here_ends_it(bench: Bench) -> None:
    a = await asked(bench)
    await a.compare("one", nonce())
    await a.string()
    await a.user("ConfirmSAS", False)
    result = await a.secured.hear("sas-result")
    assert result.get("match") == "false"
    await a.ends(LOCAL_STOPPED)


async def test_three_failed_tries_close_the_method(bench: Bench) -> None:
    a = await asked(bench)
    for number in range(3):
        ceremony = f"try{number}"
        await a.secured.commit(ceremony, nonce())
        await a.prompted(number + 1)
        await a.user("StartSAS")
        await a.secured.hear("sas-nonce")
        await a.say("sas-reveal", ceremony, nonce())
        assert await a.cancelled() == (ceremony, "error")
    await a.secured.commit("try3", nonce())
    assert await a.cancelled() == ("try3", "refused")
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await a.user("StartSAS")
    assert a.prompts() == 3
    assert not await a.verified()
    # Fingerprints can be compared as before.
    await a.user("Accept", "fingerprint")
    await completes(a, "the daemon receives")


async def test_starts_that_cross_are_one_comparison_of_the_initiators(bench: Bench) -> None:
    """The daemon is the responder: it drops its own."""
    a = await asked(bench)
    await a.user("StartSAS")
    await a.secured.hear("sas-commit")
    ours = nonce()
    await a.secured.commit("ours", ours)
    text = await a.reveal("ours", ours)
    assert await a.string() == text
    assert a.prompts() == 0
    await a.user("ConfirmSAS", True)
    await completes(a, "the daemon receives")


async def test_starts_that_cross_where_the_daemon_is_the_initiator(bench: Bench) -> None:
    a = await asked(bench, "the daemon sends")
    await a.user("StartSAS")
    commit = await a.secured.hear("sas-commit")
    await a.secured.commit("ours", nonce())
    ceremony, ours = commit.get("id", ""), nonce()
    await a.say("sas-nonce", ceremony, ours)
    reveal = messages.parse(await a.secured.hear("sas-reveal"))
    assert isinstance(reveal, messages.Message)
    assert await a.string() == a.secured.string(ceremony, ours, reveal.content)
    assert a.prompts() == 0
    await a.user("ConfirmSAS", True)
    await completes(a, "the daemon sends")


@pytest.mark.parametrize("name", ["sas-commit", "pake-start"])
async def test_a_second_ceremony_at_once_is_told_busy(bench: Bench, name: str) -> None:
    a = await asked(bench)
    ours = nonce()
    await a.secured.commit("one", ours)
    await a.prompted()
    await a.say(name, "two", bytes(32))
    assert await a.cancelled() == ("two", "busy")
    await a.user("StartSAS")
    assert await a.reveal("one", ours) == await a.string()
    await a.say(name, "three", bytes(32))
    assert await a.cancelled() == ("three", "busy")
    await a.user("ConfirmSAS", True)
    await completes(a, "the daemon receives")


async def test_a_password_from_a_program_that_has_none_is_refused(bench: Bench) -> None:
    a = await asked(bench, methods=("sas",))
    await a.say("pake-start", "one", bytes(32), suite="CPACE-X25519-SHA512")
    assert await a.cancelled() == ("one", "refused")
    assert a.prompts() == 0


async def test_somebody_who_starts_again_and_again_is_not_heard_any_more(bench: Bench) -> None:
    a = await asked(bench)
    for number in range(MAX_PEER_STARTS):
        await a.secured.commit(f"n{number}", nonce())
        await a.say("cancel", f"n{number}", reason="refused")
    await bench.side.signal(lambda _: a.prompts() == MAX_PEER_STARTS)
    await a.secured.commit("last", nonce())
    assert await a.cancelled() == ("last", "refused")
    assert a.prompts() == MAX_PEER_STARTS


async def test_a_gap_ends_a_comparison_that_has_spent_its_try(bench: Bench) -> None:
    a = await asked(bench)
    ours = nonce()
    await a.secured.commit("one", ours)
    await a.prompted()
    await a.user("StartSAS")
    await a.secured.hear("sas-nonce")
    a.secured.sealer.seal(messages.build("cancel", "x", reason="busy"))
    assert await a.say("sas-reveal", "one", ours) == ("bad-request", "")
    assert await a.cancelled() == ("one", "error")
    assert not a.saw_a_string()
    assert await a.state() == "pending"


async def test_a_damaged_message_takes_the_string_away(bench: Bench) -> None:
    a = await asked(bench)
    await a.compare("one", nonce())
    await a.string()
    sealed = a.secured.sealer.seal(messages.build("sas-result", "one", match="true"))
    sealed.text = "A" * 1388
    assert await a.secured.send_sealed(sealed) == ("bad-request", "")
    assert await a.cancelled() == ("one", "error")
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await a.user("ConfirmSAS", True)
    assert await bench.side.get(a.question, VERIFICATION, "ShortAuthenticationString") == ""


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33), bytes(10_000)])
async def test_a_malformed_start_is_refused(bench: Bench, content: bytes) -> None:
    a = await asked(bench)
    assert await a.say("sas-commit", "one", content) == ("bad-request", "")
    assert await a.say("sas-commit", "i" * 65, bytes(32)) == ("bad-request", "")
    assert a.prompts() == 0
    assert await a.state() == "pending"


async def test_payload_waits_for_the_people(bench: Bench) -> None:
    a = await asked(bench)
    before = bench.memory()
    await a.secured.write(DATA)
    await a.secured.write_eof()
    await bench.tick()
    assert a.case.got == b""
    assert bench.memory() - before < 8 * 2**20
    await a.user("ProceedUnverified")
    assert await a.case.client == DATA
    await bench.completed(a.case)
    assert not await a.verified()


async def test_a_peer_that_goes_while_people_compare_ends_the_question(bench: Bench) -> None:
    a = await asked(bench)
    await a.compare("one", nonce())
    await a.string()
    await a.case.transfer.session.terminate("cancel")
    await bench.failed(a.case, 3)
    await bench.side.signal(lambda s: s.member == "ChannelClosed" and s.body[0] == a.question)


async def test_a_road_that_breaks_while_people_compare_ends_the_question(bench: Bench) -> None:
    a = await asked(bench)
    await a.compare("one", nonce())
    await a.string()
    await a.secured.abort()
    await bench.failed(a.case, REMOTE_ERROR)
    await bench.side.signal(lambda s: s.member == "ChannelClosed" and s.body[0] == a.question)
