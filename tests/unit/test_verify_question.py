"""PeerVerification1's machine: every move, by the table and against it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from telepathy_e2e.errors import InvalidArgument, NotAvailable, PermissionDenied, TelepathyError
from telepathy_e2e.trust.policy import Demands, Policy, Reason
from telepathy_e2e.verify.question import (
    CEREMONIES,
    MOVES,
    STRENGTH,
    Answered,
    Move,
    Question,
    QuestionEvent,
    Stage,
    State,
    StateChanged,
    strongest,
)


def ask(
    reason: Reason = Reason.CONTINUITY,
    policy: Policy = Policy.OPPORTUNISTIC,
    demands: Demands | None = None,
    *,
    handler: bool = True,
    always_verify: bool = False,
) -> Question:
    return Question(
        reason=reason,
        policy=policy,
        demands=demands or Demands(),
        handler_announced=handler,
        methods=("fingerprint", "sas"),
        waits=True,
        always_verify=always_verify,
    )


def told(state: State, method: str = "") -> list[QuestionEvent]:
    return [StateChanged(state), Answered(state, method)]


ANSWERS: dict[str, Callable[[Question], list[QuestionEvent]]] = {
    "accept": lambda q: q.accept("fingerprint"),
    "proceed": lambda q: q.proceed_unverified(),
    "reject": lambda q: q.reject(),
}


def test_a_new_question_is_pending_and_open() -> None:
    question = ask()
    assert question.state is State.PENDING
    assert question.methods == ("fingerprint", "sas")
    assert question.reason == "continuity"
    assert question.waits
    question.check_open()


@pytest.mark.parametrize("method", ["fingerprint", "pin", "x509", "openpgp"])
def test_vouching_verifies(method: str) -> None:
    question = ask()
    assert question.accept(method) == told(State.VERIFIED, method)
    assert question.state is State.VERIFIED


@pytest.mark.parametrize("method", ["sas", "password"])
def test_nobody_may_claim_what_only_a_ceremony_finds_out(method: str) -> None:
    question = ask()
    with pytest.raises(InvalidArgument):
        question.accept(method)
    assert question.state is State.PENDING


@pytest.mark.parametrize("method", ["", "x" * 33, "Finger", "a b", "ü"])
def test_a_method_is_a_short_plain_word(method: str) -> None:
    question = ask()
    with pytest.raises(InvalidArgument):
        question.accept(method)
    question.accept("x" * 32)


@pytest.mark.parametrize("method", ["pin", "x509", "openpgp", "cross-signature"])
def test_nobody_elses_word_counts_where_people_are_asked_each_time(method: str) -> None:
    assert ask().accept(method) == told(State.VERIFIED, method)
    question = ask(always_verify=True)
    with pytest.raises(PermissionDenied):
        question.accept(method)
    assert question.accept("fingerprint") == told(State.VERIFIED, "fingerprint")


@pytest.mark.parametrize(("first", "second"), list(product(("accept", "reject"), ANSWERS)))
def test_only_one_answer_counts(first: str, second: str) -> None:
    question = ask()
    ANSWERS[first](question)
    state = question.state
    with pytest.raises(NotAvailable):
        ANSWERS[second](question)
    with pytest.raises(NotAvailable):
        question.check_open()
    assert question.state is state


def test_after_proceeding_it_can_still_be_verified_or_rejected_but_not_proceeded_again() -> None:
    for answer, state, method in (
        ("accept", State.VERIFIED, "fingerprint"),
        ("reject", State.REJECTED, ""),
    ):
        question = ask()
        assert question.proceed_unverified() == told(State.UNVERIFIED)
        question.check_open()
        with pytest.raises(NotAvailable):
            question.proceed_unverified()
        assert ANSWERS[answer](question) == told(state, method)


@pytest.mark.parametrize("handler", [False, True])
def test_after_proceeding_close_changes_nothing(handler: bool) -> None:
    question = ask(handler=handler)
    question.proceed_unverified()
    assert question.close() == []
    assert question.state is State.UNVERIFIED
    with pytest.raises(NotAvailable):
        question.accept("fingerprint")


def test_policy_verified_lets_nobody_through_unverified() -> None:
    question = ask(Reason.POLICY, Policy.VERIFIED)
    with pytest.raises(PermissionDenied):
        question.proceed_unverified()
    assert question.state is State.PENDING
    assert question.accept("pin") == told(State.VERIFIED, "pin")


def test_proceeding_lifts_the_demand_of_a_request() -> None:
    question = ask(Reason.REQUESTED, demands=Demands(verified=True))
    assert question.proceed_unverified() == told(State.UNVERIFIED)


def test_in_the_clear_there_is_nothing_to_vouch_for() -> None:
    question = ask(Reason.NO_ENCRYPTION)
    with pytest.raises(NotAvailable):
        question.accept("fingerprint")
    assert question.proceed_unverified() == told(State.UNVERIFIED)


@pytest.mark.parametrize(
    ("policy", "demands"),
    [
        (Policy.REQUIRED, Demands()),
        (Policy.VERIFIED, Demands()),
        (Policy.OPPORTUNISTIC, Demands(encrypted=True)),
    ],
)
def test_nobody_goes_on_in_the_clear_against_policy_or_demand(
    policy: Policy, demands: Demands
) -> None:
    question = ask(Reason.NO_ENCRYPTION, policy, demands)
    with pytest.raises(PermissionDenied):
        question.proceed_unverified()
    assert question.reject() == told(State.REJECTED)


@pytest.mark.parametrize("comparing", [False, True])
def test_close_means_no_where_a_handler_was_announced(comparing: bool) -> None:
    question = ask(handler=True)
    if comparing:
        question.ceremony_started("sas")
    assert question.close() == told(State.REJECTED)
    assert question.close() == []


def test_close_lets_through_where_nobody_had_announced_a_handler_or_demanded() -> None:
    question = ask(Reason.UPGRADE, handler=False)
    assert question.close() == told(State.UNVERIFIED)
    with pytest.raises(NotAvailable):
        question.reject()


@pytest.mark.parametrize(
    ("reason", "policy", "demands"),
    [
        (Reason.POLICY, Policy.VERIFIED, Demands()),
        (Reason.REQUESTED, Policy.OPPORTUNISTIC, Demands(verified=True)),
        (Reason.REQUESTED, Policy.OPPORTUNISTIC, Demands()),
        (Reason.NO_ENCRYPTION, Policy.REQUIRED, Demands()),
    ],
)
def test_close_means_no_where_the_answer_was_demanded(
    reason: Reason, policy: Policy, demands: Demands
) -> None:
    assert ask(reason, policy, demands, handler=False).close() == told(State.REJECTED)


def test_a_ceremony_shows_while_it_runs() -> None:
    question = ask()
    assert question.ceremony_started("sas") == [StateChanged(State.COMPARING)]
    assert question.string_ready() == []
    assert question.ceremony_ended("failed", "sas") == [StateChanged(State.PENDING)]
    assert question.string_ready() == [StateChanged(State.COMPARING)]
    assert question.ceremony_ended("verified", "sas") == told(State.VERIFIED, "sas")


def test_a_failed_ceremony_after_proceeding_leaves_it_unverified() -> None:
    question = ask()
    question.ceremony_started("sas")
    assert question.proceed_unverified() == told(State.UNVERIFIED)
    assert question.ceremony_started("sas") == [StateChanged(State.COMPARING)]
    assert question.ceremony_ended("failed", "sas") == [StateChanged(State.UNVERIFIED)]
    question.ceremony_started("sas")
    with pytest.raises(NotAvailable):
        question.proceed_unverified()
    assert question.close() == []


def test_a_ceremony_says_no_at_any_time_even_after_a_yes_and_after_close() -> None:
    fresh, answered, closed = ask(), ask(), ask()
    answered.accept("fingerprint")
    closed.proceed_unverified()
    closed.close()
    for question in (fresh, answered, closed):
        assert question.peer_rejected("sas") == told(State.REJECTED, "sas")
        assert question.ceremony_ended("rejected", "sas") == []


def test_a_ceremony_changes_nothing_for_the_better_after_the_end() -> None:
    rejected, closed = ask(), ask()
    rejected.reject()
    closed.proceed_unverified()
    closed.close()
    for question in (rejected, closed):
        state = question.state
        assert question.ceremony_started("sas") == []
        assert question.ceremony_ended("verified", "sas") == []
        assert question.state is state


def test_when_the_payload_is_gone_nothing_is_answered_any_more() -> None:
    question = ask()
    assert question.payload_gone() == []
    for answer in ANSWERS.values():
        with pytest.raises(NotAvailable):
            answer(question)
    assert question.close() == []
    assert question.ceremony_ended("verified", "sas") == []
    assert question.peer_rejected("sas") == []
    assert question.state is State.PENDING


# -- the table and every walk of four moves -------------------------------------------------

STEPS: dict[str, Callable[[Question], list[QuestionEvent]]] = {
    **ANSWERS,
    "close": lambda q: q.close(),
    "gone": lambda q: q.payload_gone(),
    "begin": lambda q: q.ceremony_started("sas"),
    "failed": lambda q: q.ceremony_ended("failed", "sas"),
    "proved": lambda q: q.ceremony_ended("verified", "sas"),
    "disproved": lambda q: q.ceremony_ended("rejected", "sas"),
}


def test_no_walk_of_four_steps_breaks_the_promise() -> None:
    walks = list(product(STEPS, repeat=4))
    for policy, reason, handler in product(
        Policy, (Reason.POLICY, Reason.REQUESTED, Reason.NO_ENCRYPTION), (False, True)
    ):
        for walk in walks:
            question = ask(reason, policy, handler=handler)
            answers: list[State] = []
            for step in walk:
                before = question.state
                try:
                    events = STEPS[step](question)
                except TelepathyError:
                    assert question.state is before
                    continue
                answers += [e.state for e in events if isinstance(e, Answered)]
                changes = [e.state for e in events if isinstance(e, StateChanged)]
                assert changes == ([question.state] if question.state is not before else [])
            # Rejected is the end; verified only a no can take back; unverified is said once.
            order = [State.UNVERIFIED, State.VERIFIED, State.REJECTED]
            assert answers == [state for state in order if state in answers]
            if policy is Policy.VERIFIED:
                assert State.UNVERIFIED not in answers
            if reason is Reason.NO_ENCRYPTION and policy in (Policy.REQUIRED, Policy.VERIFIED):
                assert State.UNVERIFIED not in answers


def test_rejected_is_final_in_the_table() -> None:
    assert not [move for stage, move in MOVES if stage is Stage.REJECTED]
    assert [move for stage, move in MOVES if stage is Stage.VERIFIED] == [Move.DISPROVED]


@pytest.mark.parametrize(
    ("methods", "best"),
    [
        (["pin"], "pin"),
        (["pin", "password"], "password"),
        (["password", "pin"], "password"),
        (["password", "sas"], "sas"),
        (["openpgp", "x509", "password", "fingerprint"], "fingerprint"),
        (["palm-reading", "pin"], "pin"),
        (["palm-reading", "tea-leaves"], "palm-reading"),
    ],
)
def test_the_strongest_of_several_methods_is_named(methods: list[str], best: str) -> None:
    assert strongest(methods) == best


def test_every_ceremony_has_its_place_among_the_methods() -> None:
    assert set(STRENGTH) >= CEREMONIES
