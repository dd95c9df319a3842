"""Policy decisions over the whole product of their inputs."""

from __future__ import annotations

from itertools import product

import pytest

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.trust.policy import (
    Answer,
    Clear,
    Close,
    Demands,
    Policy,
    Reason,
    answer_offer,
    effective,
    may_offer,
    may_proceed,
    payload_waits,
    question_when_protected,
    unanswered,
    without_protection,
)

BOTH = (False, True)
DEMANDS = (Demands(), Demands(encrypted=True), Demands(verified=True))
ALL = list(product(Policy, DEMANDS))


def encryption_needed(policy: Policy, demands: Demands) -> bool:
    return policy in (Policy.REQUIRED, Policy.VERIFIED) or demands.encrypted


def verification_needed(policy: Policy, demands: Demands) -> bool:
    return policy is Policy.VERIFIED or demands.verified


@pytest.mark.parametrize("policy", list(Policy))
def test_each_policy_is_read_by_its_name(policy: Policy) -> None:
    assert Policy.parse(policy.value) is policy


@pytest.mark.parametrize("text", ["", "Off", "none", " required"])
def test_another_policy_is_an_invalid_argument(text: str) -> None:
    with pytest.raises(InvalidArgument, match="opportunistic"):
        Policy.parse(text)


def test_who_demands_verification_demands_encryption() -> None:
    assert Demands(verified=True) == Demands(encrypted=True, verified=True)


@pytest.mark.parametrize(("policy", "demands"), ALL)
def test_demands_only_strengthen(policy: Policy, demands: Demands) -> None:
    assert effective(policy, demands) == Demands(
        encryption_needed(policy, demands), verification_needed(policy, demands)
    )


@pytest.mark.parametrize(("policy", "demands"), ALL)
def test_protection_is_offered_to_who_can_or_must_and_never_under_off(
    policy: Policy, demands: Demands
) -> None:
    for lists, known in product(BOTH, BOTH):
        offered = may_offer(policy, demands, peer_lists=lists, key_known=known)
        assert offered == (
            policy is not Policy.OFF and (encryption_needed(policy, demands) or lists or known)
        )


@pytest.mark.parametrize(("policy", "demands"), ALL)
def test_a_responder_protects_what_was_offered_and_refuses_what_is_too_weak(
    policy: Policy, demands: Demands
) -> None:
    for offered in BOTH:
        answer = answer_offer(policy, demands, offered=offered)
        if answer is Answer.PROTECT:
            assert offered
            assert policy is not Policy.OFF
        if answer is Answer.CLEAR:
            assert not encryption_needed(policy, demands)
            assert not offered or policy is Policy.OFF
        if answer is Answer.REFUSE:
            assert encryption_needed(policy, demands)
            assert not offered or policy is Policy.OFF


@pytest.mark.parametrize(("policy", "demands"), ALL)
def test_nothing_goes_in_the_clear_where_encryption_is_needed(
    policy: Policy, demands: Demands
) -> None:
    for handler in BOTH:
        found = without_protection(policy, demands, handler_announced=handler)
        if encryption_needed(policy, demands):
            assert found is Clear.REFUSE
        else:
            assert found is (Clear.ASK if handler else Clear.GO)


@pytest.mark.parametrize(("policy", "demands"), ALL)
def test_a_question_is_put_where_verification_is_needed_or_somebody_can_answer(
    policy: Policy, demands: Demands
) -> None:
    for handler, always in product(BOTH, BOTH):
        if policy is Policy.OFF:
            with pytest.raises(ValueError, match="off"):
                question_when_protected(
                    policy, demands, handler_announced=handler, always_verify=always
                )
            continue
        reason = question_when_protected(
            policy, demands, handler_announced=handler, always_verify=always
        )
        needed = verification_needed(policy, demands)
        assert (reason is not None) == (needed or handler or always)
        if policy is Policy.VERIFIED:
            assert reason is Reason.POLICY
        elif demands.verified:
            assert reason is Reason.REQUESTED
        elif always:
            assert reason is Reason.POLICY
        elif handler:
            assert reason is Reason.CONTINUITY


@pytest.mark.parametrize(("policy", "demands"), ALL)
def test_payload_never_runs_ahead_where_verification_is_needed(
    policy: Policy, demands: Demands
) -> None:
    for handler, always, call in product(BOTH, BOTH, BOTH):
        if policy is Policy.OFF:
            continue
        reason = question_when_protected(
            policy, demands, handler_announced=handler, always_verify=always
        )
        waits = payload_waits(reason, policy, demands, call=call)
        if verification_needed(policy, demands):
            assert waits
        elif reason is None:
            assert not waits
        else:
            assert waits != call


def test_payload_waits_for_the_question_in_the_clear_and_runs_during_an_upgrade() -> None:
    for call in BOTH:
        clear, upgrade = Reason.NO_ENCRYPTION, Reason.UPGRADE
        assert payload_waits(clear, Policy.OPPORTUNISTIC, Demands(), call=call)
        assert not payload_waits(upgrade, Policy.OPPORTUNISTIC, Demands(), call=call)


@pytest.mark.parametrize(("policy", "demands"), ALL)
def test_proceeding_lifts_a_demand_for_verification_but_never_the_policy(
    policy: Policy, demands: Demands
) -> None:
    for reason in Reason:
        allowed = may_proceed(reason, policy, demands)
        if reason is Reason.NO_ENCRYPTION:
            assert allowed == (not encryption_needed(policy, demands))
        else:
            assert allowed == (policy is not Policy.VERIFIED)


@pytest.mark.parametrize(("policy", "demands"), ALL)
def test_an_unanswered_question_opens_the_gate_only_where_nobody_handled_or_demanded_it(
    policy: Policy, demands: Demands
) -> None:
    for reason, handler in product(Reason, BOTH):
        close = unanswered(reason, policy, demands, handler_announced=handler)
        if close is Close.PROCEED:
            assert not handler
            assert may_proceed(reason, policy, demands)
            assert reason is not Reason.REQUESTED
            if reason is Reason.NO_ENCRYPTION:
                assert not encryption_needed(policy, demands)
            else:
                assert not verification_needed(policy, demands)


def test_an_unanswered_question_that_nobody_handled_or_demanded_lets_payload_through() -> None:
    for policy, reason in product(
        (Policy.OFF, Policy.OPPORTUNISTIC),
        (Reason.POLICY, Reason.UPGRADE, Reason.CONTINUITY, Reason.NO_ENCRYPTION),
    ):
        close = unanswered(reason, policy, Demands(), handler_announced=False)
        assert close is Close.PROCEED
