"""One answer counts, and nothing but a ceremony, a voucher or a matching print verifies.

Clients answer a question in any order and at any time, ceremonies begin and end around them: a
yes after a no is never taken, a no is never taken back, the gate opens at most once and only where
the policy lets it, and what was refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import InvalidArgument, NotAvailable, PermissionDenied
from telepathy_e2e.trust.policy import Demands, Policy, Reason, may_proceed
from telepathy_e2e.verify import fingerprint
from telepathy_e2e.verify.events import Outcome
from telepathy_e2e.verify.question import (
    CEREMONIES,
    Answered,
    Question,
    QuestionEvent,
    State,
    StateChanged,
)

from .support import VALUES, budget

Step = tuple[str, str]

METHODS = st.sampled_from(
    ("fingerprint", "pin", "x509", "sas", "password", "", "A", "\u00e9", "a" * 33, "a\n", "sas ")
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            (
                "accept",
                "proceed",
                "reject",
                "close",
                "payload gone",
                "began",
                "string",
                "verified",
                "failed",
                "rejected",
                "peer rejected",
            )
        ),
        METHODS | st.text(max_size=3),
    ),
    max_size=12,
)


def _do(question: Question, step: Step) -> list[QuestionEvent]:
    name, method = step
    steps: dict[str, Callable[[], list[QuestionEvent]]] = {
        "accept": lambda: question.accept(method),
        "proceed": question.proceed_unverified,
        "reject": question.reject,
        "close": question.close,
        "payload gone": question.payload_gone,
        "began": lambda: question.ceremony_started("sas"),
        "string": question.string_ready,
        "verified": lambda: question.ceremony_ended("verified", "sas"),
        "failed": lambda: question.ceremony_ended("failed", "sas"),
        "rejected": lambda: question.ceremony_ended("rejected", "sas"),
        "peer rejected": lambda: question.peer_rejected("sas"),
    }
    return steps[name]()


@budget(4)
@given(
    st.sampled_from(Reason),
    st.sampled_from(Policy),
    st.sampled_from((Demands(), Demands(encrypted=True), Demands(encrypted=True, verified=True))),
    st.booleans(),
    st.booleans(),
    STEPS,
)
def test_one_answer_counts(
    reason: Reason,
    policy: Policy,
    demands: Demands,
    handler: bool,
    always: bool,
    steps: list[Step],
) -> None:
    question = Question(
        reason=reason,
        policy=policy,
        demands=demands,
        handler_announced=handler,
        methods=("fingerprint", "sas"),
        waits=True,
        always_verify=always,
    )
    opened = rejected = over = gone = False
    verified_by = ""
    for step in steps:
        before = question.state
        try:
            events = _do(question, step)
        except (NotAvailable, InvalidArgument, PermissionDenied):
            assert step[0] in ("accept", "proceed", "reject"), "a fact is never refused"
            assert question.state is before, "what was refused changed something"
            continue
        states = [event.state for event in events if isinstance(event, StateChanged)]
        assert states == ([question.state] if question.state is not before else [])
        answers = [event for event in events if isinstance(event, Answered)]
        assert len(answers) <= 1
        if gone:
            assert not events, "nobody needs an answer any more"
        gone = gone or step[0] == "payload gone"
        if over:
            assert not answers or step[0] in ("rejected", "peer rejected")
        if rejected:
            assert not events, "a no was taken back or given twice"
        for answer in answers:
            assert answer.state is question.state
            match answer.state:
                case State.VERIFIED:
                    assert not verified_by, "verified twice"
                    verified_by = step[0]
                    if step[0] == "accept":
                        assert answer.method == step[1]
                        assert answer.method not in CEREMONIES
                        assert reason is not Reason.NO_ENCRYPTION
                        assert not (always and answer.method == "pin")
                    else:
                        assert step[0] == "verified"
                    opened = True
                case State.UNVERIFIED:
                    assert not opened, "the gate was opened twice"
                    assert step[0] in ("proceed", "close")
                    if step[0] == "proceed":
                        assert may_proceed(reason, policy, demands)
                    else:
                        assert not demands.verified
                        assert not handler
                    opened = True
                case State.REJECTED:
                    assert step[0] in ("reject", "close", "rejected", "peer rejected")
                    rejected = True
                case _:
                    raise AssertionError("not an answer")
        assert (question.state is State.VERIFIED) == (bool(verified_by) and not rejected)
        assert (question.state is State.REJECTED) == rejected
        over = over or step[0] in ("close", "payload gone")


PRINT = bytes(range(32))


@budget(3)
@given(
    st.one_of(
        VALUES,
        st.text("0123456789abcdefABCDEF:- \n\t\u0660", max_size=120),
        st.builds(
            lambda place, put: (text := PRINT.hex(":"))[:place] + put + text[place:],
            st.integers(0, 95),
            st.text(":- 0af\n", max_size=2),
        ),
        # One digit is another.
        st.builds(
            lambda place, digit: (text := PRINT.hex())[:place] + digit + text[place + 1 :],
            st.integers(0, 63),
            st.sampled_from("0123456789abcdef"),
        ),
    )
)
def test_a_print_that_was_typed_verifies_only_if_it_is_the_whole(text: str) -> None:
    try:
        entered = fingerprint.parse(text)
    except InvalidArgument:
        return
    digits = "".join(c for c in text if c in "0123456789abcdefABCDEF").lower()
    assert entered.hex() == digits
    same = fingerprint.compare(entered, PRINT) is Outcome.VERIFIED
    assert same == (digits == PRINT.hex())
