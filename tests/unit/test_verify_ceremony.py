"""Ceremonies, for both roles and both starters (xtls-wire, section 5)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify import sas
from telepathy_e2e.verify.ceremony import (
    MAX_PEER_STARTS,
    TIMEOUT,
    Ceremonies,
    CeremonyEnded,
    ContactTries,
    Event,
    Outcome,
    PeerStarted,
    PeerVerdict,
    Reported,
    StringReady,
    V,
    build_verdict,
)
from telepathy_e2e.verify.messages import MAX_ID, MAX_METHOD
from telepathy_e2e.verify.pake import SUITE
from tests.unit.verify_support import (
    BINDING,
    FI,
    FR,
    Side,
    compare,
    element,
    names,
    of,
    one,
    pair,
    sent,
)

NONCE = base64.b64encode(b"n" * 32).decode()
TAG = base64.b64encode(b"t" * 64).decode()


@pytest.fixture(params=list(Role), ids=lambda role: f"{role} starts")
def starter(request: pytest.FixtureRequest) -> Side:
    role: Role = request.param
    return Side(role)


@pytest.fixture
def other(starter: Side) -> Side:
    return Side(starter.role.other)


def start_of_peer(side: Side, ceremony: str = "p1", nonce: bytes = b"n" * 32) -> list[Event]:
    promise = sas.commitment(BINDING, ceremony, side.role.other, nonce)
    text = base64.b64encode(promise).decode()
    return side.hear(element("sas-commit", text, id=ceremony))


def ended(outcome: str, reason: str, *, spent: bool = False) -> CeremonyEnded:
    return CeremonyEnded(Outcome(outcome), "sas", reason, spent)


def cancels(events: list[Event]) -> list[tuple[str | None, str | None]]:
    return [(e.get("id"), e.get("reason")) for e in sent(events) if e.tag == f"{{{V}}}cancel"]


# -- the ordinary course ----------------------------------------------------------------------


def test_both_users_see_the_same_string_and_both_become_verified(
    starter: Side, other: Side
) -> None:
    commit = starter.start()
    assert names(commit) == ["sas-commit"]
    assert other.hear(one(commit)) == [PeerStarted("sas")]
    nonce = other.start()
    assert names(nonce) == ["sas-nonce"]
    reveal = starter.hear(one(nonce))
    assert names(reveal) == ["sas-reveal", "StringReady"]
    assert names(other.hear(one(reveal))) == ["StringReady"]
    assert starter.string == other.string
    assert len(starter.string or "") == 6
    for side, peer in ((starter, other), (other, starter)):
        result = side.confirm(True)
        assert one(result).get("match") == "true"
        assert result[-1] == ended("verified", "", spent=True)
        assert peer.hear(one(result)) == []
    assert starter.tries.failed == other.tries.failed == 0


def test_the_string_is_that_of_the_wire_page(starter: Side, other: Side) -> None:
    ceremony = compare(starter, other)
    elements = {e.tag.rpartition("}")[2]: e for side in (starter, other) for e in sent(side.said)}
    own = base64.b64decode(elements["sas-reveal"].text or "")
    their = base64.b64decode(elements["sas-nonce"].text or "")
    nonces = (own, their) if starter.role is Role.INITIATOR else (their, own)
    assert starter.string == sas.short_string(BINDING, ceremony, FI, FR, *nonces)


def test_the_nonce_waits_for_this_users_agreement(starter: Side, other: Side) -> None:
    other.hear(one(starter.start()))
    assert sent(other.said) == []
    assert other.tries.failed == 0


def test_a_no_rejects_on_both_sides(starter: Side, other: Side) -> None:
    compare(starter, other)
    result = starter.confirm(False)
    assert one(result).get("match") == "false"
    assert starter.ends[-1].outcome == "rejected"
    assert other.hear(one(result))[-1] == ended("rejected", "peer-mismatch", spent=True)
    with pytest.raises(NotAvailable):
        other.confirm(True)
    assert starter.tries.failed == other.tries.failed == 1


def test_a_no_of_the_peer_counts_after_this_users_yes(starter: Side, other: Side) -> None:
    compare(starter, other)
    starter.hear(one(other.confirm(True)))
    late = other.hear(one(starter.confirm(False)))
    assert [e.outcome for e in other.ends] == ["verified", "rejected"]
    assert sent(late) == []


def test_a_late_no_counts_once_and_stops_what_runs(starter: Side, other: Side) -> None:
    ceremony = compare(starter, other)
    starter.confirm(True)
    again = one(starter.start())
    no = element("sas-result", id=ceremony, match="false")
    events = starter.hear(no)
    assert cancels(events) == [(again.get("id"), "refused")]
    assert [e.outcome for e in of(events, CeremonyEnded)] == ["failed", "rejected"]
    assert starter.hear(no) == []


def test_a_no_counts_after_this_side_gave_up_waiting(starter: Side, other: Side) -> None:
    compare(starter, other)
    other.tick(TIMEOUT)
    other.hear(one(starter.confirm(False)), TIMEOUT)
    assert [e.outcome for e in other.ends] == ["failed", "rejected"]


def test_after_a_no_nothing_can_be_tried_any_more(starter: Side, other: Side) -> None:
    compare(starter, other)
    other.hear(one(starter.confirm(False)))
    for side in (starter, other):
        with pytest.raises(NotAvailable, match="final"):
            side.start()
        assert cancels(start_of_peer(side)) == [("p1", "refused")]


def test_the_first_yes_of_the_peer_decides_nothing(starter: Side, other: Side) -> None:
    compare(starter, other)
    assert starter.hear(one(other.confirm(True))) == []
    assert starter.ends == []
    starter.confirm(False)
    assert starter.ends[-1].outcome == "rejected"


def test_a_second_ceremony_gives_another_string(starter: Side, other: Side) -> None:
    compare(starter, other)
    starter.confirm(True)
    other.confirm(True)
    first = starter.string
    compare(other, starter)
    assert starter.string == other.string != first


# -- commitments ------------------------------------------------------------------------------


def test_another_nonce_than_promised_fails_before_a_string_is_shown(starter: Side) -> None:
    side = starter
    start_of_peer(side)
    side.start()
    events = side.hear(element("sas-reveal", base64.b64encode(b"x" * 32).decode(), id="p1"))
    assert cancels(events) == [("p1", "error")]
    assert names(events) == ["cancel", "Reported", "CeremonyEnded"]
    assert side.ends[-1] == ended("failed", "wrong-reveal", spent=True)
    assert side.string is None
    assert side.tries.failed == 1


def test_our_own_commitment_sent_back_is_not_one_of_the_peers(starter: Side) -> None:
    side = starter
    own = one(side.start())
    events = side.hear(own)
    assert cancels(events) == [(own.get("id"), "error")]
    assert side.ends[-1].reason == "out-of-place"
    assert side.tries.failed == 0


def test_a_reveal_before_our_nonce_ends_it(starter: Side) -> None:
    side = starter
    start_of_peer(side)
    events = side.hear(element("sas-reveal", NONCE, id="p1"))
    assert cancels(events) == [("p1", "error")]
    with pytest.raises(NotAvailable):
        side.confirm(True)
    assert side.string is None
    assert side.tries.failed == 0


def test_a_relay_between_two_tls_sessions_cannot_pass_a_ceremony_on(starter: Side) -> None:
    far = Side(starter.role.other, binding=b"another TLS session, other key.."[:32])
    far.hear(one(starter.start()))
    reveal = one(starter.hear(one(far.start())))
    far.hear(reveal)
    assert far.string is None
    assert far.ends[-1].reason == "wrong-reveal"


# -- out of place, unknown, malformed ---------------------------------------------------------


@pytest.mark.parametrize("name", ["sas-commit", "sas-reveal", "pake-reply", "sas-whatever"])
def test_a_message_out_of_place_ends_the_comparison(starter: Side, name: str) -> None:
    own = one(starter.start()).get("id", "")
    events = starter.hear(element(name, NONCE, id=own, tag=TAG))
    assert cancels(events) == [(own, "error")]
    assert starter.ends[-1] == ended("failed", "out-of-place")


def test_a_second_nonce_ends_the_comparison_as_a_failed_try(starter: Side, other: Side) -> None:
    ceremony = compare(starter, other)
    starter.hear(element("sas-nonce", NONCE, id=ceremony))
    assert starter.ends[-1].spent
    assert starter.tries.failed == 1


def test_a_yes_before_the_strings_is_out_of_place_and_a_no_is_believed(starter: Side) -> None:
    for match, outcome in (("true", "failed"), ("false", "rejected")):
        side = Side(starter.role)
        start_of_peer(side)
        side.hear(element("sas-result", id="p1", match=match))
        assert side.ends[-1].outcome == outcome


@pytest.mark.parametrize(
    "name", ["sas-nonce", "sas-reveal", "pake-reply", "pake-confirm", "cancel"]
)
def test_messages_of_a_ceremony_that_is_over_are_ignored(starter: Side, name: str) -> None:
    content = TAG if name == "pake-confirm" else NONCE
    assert starter.hear(element(name, content, id="gone", tag=TAG)) == []
    assert starter.hear(element("sas-result", id="gone", match="false")) == []


def test_an_unknown_kind_is_cancelled_or_ignored(starter: Side) -> None:
    assert cancels(starter.hear(element("dance-start", id="d1"))) == [("d1", "error")]
    (event,) = starter.hear(element("news"))
    assert isinstance(event, Reported)


@pytest.mark.parametrize("methods", [("sas",), ()])
def test_a_method_that_is_not_had_is_refused(starter: Side, methods: tuple[str, ...]) -> None:
    side = Side(starter.role, methods)
    start = element("pake-start", NONCE, id="p1", suite="CPACE-X25519-SHA512")
    assert cancels(side.hear(start)) == [("p1", "refused")]
    assert side.machine.deadline() is None


def test_what_the_peer_cannot_do_is_not_begun(starter: Side) -> None:
    side = Side(starter.role, ())
    with pytest.raises(NotAvailable):
        side.start()
    assert cancels(start_of_peer(side)) == [("p1", "refused")]


MALFORMED = [
    element("sas-commit", NONCE),
    element("sas-commit", NONCE, id=""),
    element("sas-commit", NONCE, id="x" * (MAX_ID + 1)),
    element("sas-commit", NONCE[:-4], id="x"),
    element("sas-commit", NONCE + "AAAA", id="x"),
    element("sas-commit", "A" * 44, id="x"),
    element("sas-commit", " " + NONCE[:-1], id="x"),
    element("sas-commit", "é" * 44, id="x"),
    element("sas-commit", "====" * 11, id="x"),
    element("sas-commit", id="x"),
    element("sas-nonce", "A", id="x"),
    element("sas-reveal", "A", id="x"),
    element("sas-result", id="x"),
    element("sas-result", id="x", match="maybe"),
    element("cancel", reason="busy"),
    element("pake-start"),
    element("pake-start", id="x", suite=SUITE),
    element("pake-start", NONCE + "AAAA", id="x", suite=SUITE),
    element("pake-start", TAG, id="x", suite=SUITE),
    element("pake-reply", NONCE, id="x"),
    element("pake-reply", NONCE, id="x", tag=NONCE),
    element("pake-reply", NONCE, id="x", tag=TAG[:-2]),
    element("pake-reply", TAG, id="x", tag=TAG),
    element("pake-confirm", id="x"),
    element("pake-confirm", NONCE, id="x"),
    element("pake-confirm", "?" * 88, id="x"),
    element("unknown", id="x" * (MAX_ID + 1)),
    element("verdict"),
    element("verdict", value="great", method="sas"),
    element("verdict", value="verified", method="x" * (MAX_METHOD + 1)),
    element("verdict", value="verified", method="<b>"),
    element("hello"),
]


@pytest.mark.parametrize("broken", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_message_is_an_error_and_changes_nothing(
    starter: Side, other: Side, broken: object
) -> None:
    ceremony = compare(starter, other)
    made = element("x")
    assert isinstance(broken, type(made))
    with pytest.raises(PeerError):
        starter.hear(broken)
    assert starter.ends == []
    assert one(starter.confirm(True)).get("id") == ceremony


def test_elements_of_other_namespaces_are_an_error(starter: Side) -> None:
    for tag in ("sas-commit", "{urn:other}sas-commit", "{" + V + "x}sas-commit"):
        broken = element("x", NONCE, id="c")
        broken.tag = tag
        with pytest.raises(PeerError):
            starter.hear(broken)


def test_ids_and_methods_at_the_bound_are_fine(starter: Side) -> None:
    assert start_of_peer(starter, "x" * MAX_ID) == [PeerStarted("sas")]
    word = "x" * MAX_METHOD
    assert starter.hear(element("verdict", value="verified", method=word)) == [
        PeerVerdict("verified", word)
    ]


# -- one at a time ----------------------------------------------------------------------------


def test_another_start_is_told_busy_and_ends_nothing(starter: Side, other: Side) -> None:
    compare(starter, other)
    for side in (starter, other):
        for name in ("sas-commit", "pake-start"):
            assert cancels(side.hear(element(name, NONCE, id="new"))) == [("new", "busy")]
        with pytest.raises(NotAvailable, match="running"):
            side.start()
    assert starter.ends == other.ends == []
    starter.confirm(True)
    other.confirm(True)


def test_busy_ends_nothing_that_has_begun_but_answers_a_start(starter: Side, other: Side) -> None:
    ceremony = compare(starter, other)
    for side in (starter, other):
        assert side.hear(element("cancel", id=ceremony, reason="busy")) == []
    fresh = Side(starter.role)
    own = one(fresh.start()).get("id", "")
    fresh.hear(element("cancel", id=own, reason="busy"))
    assert fresh.ends == [ended("failed", "busy")]


def test_when_starts_cross_the_initiators_counts() -> None:
    initiator, responder = pair()
    first, second = one(initiator.start()), one(responder.start())
    assert initiator.hear(second) == []
    # This user has asked to compare: he has agreed.
    nonce = responder.hear(first)
    assert names(nonce) == ["sas-nonce"]
    assert one(nonce).get("id") == first.get("id")
    responder.hear(one(initiator.hear(one(nonce))))
    assert initiator.string == responder.string is not None
    initiator.confirm(True)
    responder.confirm(True)
    assert [e.outcome for e in responder.ends] == ["verified"]


def test_a_nonce_that_was_promised_in_a_dropped_start_serves_no_other() -> None:
    initiator, responder = pair()
    commit = one(responder.start())
    nonce = one(responder.hear(one(initiator.start())))
    promised = base64.b64decode(commit.text or "")
    shown = base64.b64decode(nonce.text or "")
    assert not sas.opens(promised, BINDING, commit.get("id", ""), Role.RESPONDER, shown)


def test_a_start_of_another_method_that_crosses_drops_the_responders_too() -> None:
    responder = Side(Role.RESPONDER)
    responder.start()
    events = responder.hear(element("pake-start", NONCE, id="p1"))
    assert names(events) == ["CeremonyEnded", "cancel"]
    assert cancels(events) == [("p1", "refused")]
    assert responder.ends[-1].reason == "crossed"


def test_an_id_serves_once(starter: Side) -> None:
    start_of_peer(starter)
    starter.hear(element("cancel", id="p1", reason="refused"))
    assert cancels(start_of_peer(starter)) == [("p1", "error")]


def test_the_peer_may_only_start_so_often(starter: Side) -> None:
    for i in range(MAX_PEER_STARTS):
        assert start_of_peer(starter, str(i)) == [PeerStarted("sas")]
        starter.hear(element("cancel", id=str(i), reason="refused"))
    assert cancels(start_of_peer(starter, "more")) == [("more", "refused")]
    assert names(starter.start()) == ["sas-commit"]


# -- cancelling, time, disturbance ------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "reason"),
    [("refused", "refused"), ("timeout", "timeout"), ("error", "error"), ("?!", "error")],
)
def test_a_cancel_of_the_peer_ends_it(starter: Side, word: str, reason: str) -> None:
    own = one(starter.start()).get("id", "")
    starter.hear(element("cancel", id=own, reason=word))
    assert starter.ends == [ended("failed", reason)]
    assert starter.machine.deadline() is None
    assert starter.tries.failed == 0


def test_a_cancel_after_the_try_was_spent_is_a_failed_try(starter: Side, other: Side) -> None:
    ceremony = compare(starter, other)
    for side in (starter, other):
        side.hear(element("cancel", id=ceremony, reason="error"))
        assert side.ends == [ended("failed", "error", spent=True)]
        assert side.tries.failed == 1


def test_a_cancel_after_the_yes_takes_nothing_back(starter: Side, other: Side) -> None:
    ceremony = compare(starter, other)
    starter.confirm(True)
    assert starter.hear(element("cancel", id=ceremony, reason="timeout")) == []
    assert [e.outcome for e in starter.ends] == ["verified"]


def test_this_user_may_refuse_or_stop(starter: Side, other: Side) -> None:
    commit = one(starter.start())
    other.hear(commit)
    events = other.machine.cancel(0)
    assert cancels(events) == [(commit.get("id"), "refused")]
    assert other.machine.cancel(0) == []
    starter.hear(one(events))
    assert starter.ends[-1].reason == "refused"


def test_sixty_seconds_without_agreement_end_it_without_a_try(starter: Side, other: Side) -> None:
    commit = one(starter.start(100))
    other.hear(commit, 100)
    for side in (starter, other):
        assert side.machine.deadline() == 100 + TIMEOUT == 160
        assert side.tick(159.9) == []
        assert cancels(side.tick(160)) == [(commit.get("id"), "timeout")]
        assert side.ends == [ended("failed", "timeout")]
        assert side.machine.deadline() is None


def test_sixty_seconds_after_the_try_was_spent_it_has_failed(starter: Side, other: Side) -> None:
    commit = one(starter.start(0))
    other.hear(commit, 0)
    reveal = one(starter.hear(one(other.start(50)), 50))
    other.hear(reveal, 50)
    for side in (starter, other):
        assert side.tick(109.9) == []
        side.tick(110)
        assert side.ends[-1] == ended("failed", "timeout", spent=True)
        assert side.tries.failed == 1


def test_an_answer_that_comes_too_late_is_none_although_nobody_ticked(
    starter: Side, other: Side
) -> None:
    compare(starter, other)
    assert cancels(starter.confirm(True, TIMEOUT))
    assert [e.outcome for e in starter.ends] == ["failed"]
    late = Side(starter.role)
    start_of_peer(late)
    assert "sas-nonce" not in names(late.start(TIMEOUT))


def test_a_nonce_that_comes_too_late_opens_nothing(starter: Side) -> None:
    own = one(starter.start()).get("id", "")
    events = starter.hear(element("sas-nonce", NONCE, id=own), TIMEOUT)
    assert names(events) == ["cancel", "CeremonyEnded"]


def test_a_disturbance_ends_what_has_spent_its_try_and_nothing_else(
    starter: Side, other: Side
) -> None:
    commit = one(starter.start())
    other.hear(commit)
    assert starter.disturb() == other.disturb() == []
    nonce = one(other.start())
    assert starter.disturb() == []
    assert cancels(other.disturb()) == [(commit.get("id"), "error")]
    assert other.ends == [ended("failed", "gap", spent=True)]
    starter.hear(nonce)
    assert cancels(starter.disturb()) == [(commit.get("id"), "error")]


def test_a_disturbance_after_the_yes_changes_nothing(starter: Side, other: Side) -> None:
    compare(starter, other)
    starter.confirm(True)
    assert starter.disturb() == []
    assert [e.outcome for e in starter.ends] == ["verified"]


def test_the_end_of_the_epoch_ends_everything_silently(starter: Side, other: Side) -> None:
    compare(starter, other)
    (event,) = starter.machine.abandon("session over", 0)
    assert event == ended("failed", "session over", spent=True)
    assert starter.machine.abandon("session over", 0) == []
    assert starter.tries.failed == 1


# -- tries ------------------------------------------------------------------------------------


def test_three_failed_tries_close_the_method_on_that_side(starter: Side, other: Side) -> None:
    for _ in range(3):
        compare(starter, other)
        starter.disturb()
        other.disturb()
    for side in (starter, other):
        with pytest.raises(NotAvailable, match="too often"):
            side.start()
        assert cancels(start_of_peer(side)) == [("p1", "refused")]


def test_tries_are_shared_with_the_next_epoch(starter: Side, other: Side) -> None:
    for _ in range(3):
        compare(starter, other)
        starter.disturb()
        other.disturb()
    next_epoch = Ceremonies(
        role=starter.role,
        binding=b"2" * 32,
        initiator_fingerprint=FI,
        responder_fingerprint=FR,
        methods=("sas",),
        tries=starter.tries,
    )
    with pytest.raises(NotAvailable):
        next_epoch.start_sas(0)


def test_a_starter_whose_tries_other_sessions_used_up_reveals_nothing(starter: Side) -> None:
    own = one(starter.start()).get("id", "")
    for _ in range(10):
        starter.contacts.session(f"{starter.role}@me", "contact@example.org").spend(0)
    events = starter.hear(element("sas-nonce", NONCE, id=own))
    assert cancels(events) == [(own, "refused")]
    assert starter.ends == [ended("failed", "tries")]


def test_agreeing_needs_a_try(starter: Side) -> None:
    start_of_peer(starter)
    for _ in range(10):
        starter.contacts.session(f"{starter.role}@me", "contact@example.org").spend(0)
    with pytest.raises(NotAvailable, match="reopen"):
        starter.start()
    assert sent(starter.said) == []


# -- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["verified", "unverified", "rejected"])
def test_verdicts_are_passed_on_and_decide_nothing(starter: Side, value: str) -> None:
    assert starter.hear(build_verdict(value, "sas")) == [PeerVerdict(value, "sas")]
    assert starter.hear(build_verdict(value, "")) == [PeerVerdict(value, "")]
    assert starter.ends == []


@pytest.mark.parametrize(("value", "method"), [("fine", "sas"), ("verified", "a b")])
def test_we_send_no_improper_verdict(value: str, method: str) -> None:
    with pytest.raises(ValueError, match="verdict"):
        build_verdict(value, method)


def test_strings_and_nonces_are_in_no_repr(starter: Side, other: Side) -> None:
    compare(starter, other)
    assert starter.string
    for shown in (StringReady(starter.string), starter.machine._session, starter.machine._run):
        assert starter.string not in repr(shown)
        assert BINDING.decode() not in repr(shown)


@pytest.mark.parametrize("short", range(3))
def test_a_short_binding_or_fingerprint_is_a_mistake_of_ours(short: int) -> None:
    parts = [BINDING, FI, FR]
    parts[short] = b""
    with pytest.raises(ValueError, match="32 bytes"):
        Ceremonies(
            role=Role.INITIATOR,
            binding=parts[0],
            initiator_fingerprint=parts[1],
            responder_fingerprint=parts[2],
            methods=("sas",),
            tries=ContactTries().session("a", "b"),
        )


# -- whatever a peer says ---------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        "sas-commit",
        "sas-nonce",
        "sas-reveal",
        "sas-result",
        "pake-start",
        "pake-reply",
        "pake-confirm",
        "cancel",
        "verdict",
        "hello",
        "other",
    ]
)
TEXTS = st.one_of(st.none(), st.just(NONCE), st.text(max_size=50))
IDS = st.one_of(st.sampled_from(["OWN", "p1", "p2", ""]), st.text(max_size=70))
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "id": IDS,
        "match": st.sampled_from(["true", "false", "0", "x"]),
        "reason": st.sampled_from(["busy", "refused", "timeout", "error", "x"]),
        "value": st.sampled_from(["verified", "rejected", "x"]),
        "method": st.text(max_size=40),
    },
)


@given(
    role=st.sampled_from(Role),
    own_start=st.booleans(),
    story=st.lists(st.tuples(NAMES, TEXTS, ATTRIBUTES), max_size=8),
)
def test_no_words_of_a_peer_raise_anything_but_peer_error_or_verify(
    role: Role, own_start: bool, story: list[tuple[str, str | None, dict[str, str]]]
) -> None:
    side = Side(role)
    own = one(side.start()).get("id", "") if own_start else ""
    for name, text, attributes in story:
        said = {k: own if v == "OWN" else v for k, v in attributes.items()}
        try:
            side.hear(element(name, text, **said))
        except PeerError:
            continue
    assert all(end.outcome != "verified" for end in side.ends)
    side.tick(TIMEOUT)
    assert side.machine.deadline() is None
