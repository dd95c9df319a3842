import asyncio
from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.cli import names
from telepathy_e2e.cli import question as module
from telepathy_e2e.cli.bus import Bus
from telepathy_e2e.cli.exits import Exit
from telepathy_e2e.cli.question import Answers, answer
from telepathy_e2e.cli.views import connections
from tests.unit.cli_support import (
    OWN_FINGERPRINT,
    PATIENCE,
    PEER_FINGERPRINT,
    PV,
    FakeCM,
    FakeError,
    Person,
    Robot,
    bus_address,
    cm,
)

__all__ = ["bus_address", "cm"]

SAS = "AB2C3D"


async def ask(cm: FakeCM, question: str, output: Person, answers: Answers) -> tuple[str, str]:
    bus = await Bus.connect()
    try:
        (connection,) = await connections(bus)
        async with asyncio.timeout(PATIENCE):
            return await answer(connection.channels[question], output, answers)
    finally:
        await bus.close()


async def new_question(cm: FakeCM, **settings: Any) -> str:
    await cm.add_connection()
    return cm.add_question(cm.add_transfer(requested=True), **settings)


def finishes(cm: FakeCM, member: str, state: str, method: str = "") -> None:
    async def handler(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        cm.finish_question(path, state, call[1] if member == "Accept" else method)
        return "", []

    cm.handlers[member] = handler


def compares(cm: FakeCM, text: str = SAS) -> None:
    """StartSAS leads to the string at once."""

    async def start(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        cm.set(path, PV, State=Variant("s", "comparing"))
        cm.set(path, PV, ShortAuthenticationString=Variant("s", text))
        return "", []

    async def confirm(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        cm.finish_question(path, "verified" if call[1] else "rejected", "sas" if call[1] else "")
        return "", []

    cm.handlers.update({"StartSAS": start, "ConfirmSAS": confirm})


def breaks_off(cm: FakeCM, path: str) -> None:
    cm.set(path, PV, ShortAuthenticationString=Variant("s", ""))
    cm.set(path, PV, State=Variant("s", "pending"))


async def test_a_script_that_says_yes_verifies_by_the_short_string(cm: FakeCM) -> None:
    question = await new_question(cm)
    compares(cm)
    output = Robot()
    assert await ask(cm, question, output, Answers(sas_matches="yes")) == ("verified", "sas")
    assert output.event("sas")["string"] == SAS
    assert await cm.called("ConfirmSAS") == [True]


async def test_a_script_that_says_no_rejects(cm: FakeCM) -> None:
    question = await new_question(cm)
    compares(cm)
    answers = Answers(sas_matches="no")
    assert await ask(cm, question, Robot(), answers) == ("rejected", "")
    assert await cm.called("ConfirmSAS") == [False]


@pytest.mark.parametrize(
    ("line", "said"), [("yes", True), ("no", False), ("", False), ("anything", False)]
)
async def test_the_answer_may_come_by_standard_input_after_the_string(
    cm: FakeCM, monkeypatch: pytest.MonkeyPatch, line: str, said: bool
) -> None:
    question = await new_question(cm)
    compares(cm)
    output = Robot()

    async def read(_: object) -> str:
        assert output.event("sas")["string"] == SAS
        return line

    monkeypatch.setattr(module, "read_line", read)
    await ask(cm, question, output, Answers(sas_matches="stdin"))
    assert await cm.called("ConfirmSAS") == [said]


async def test_a_closed_standard_input_is_no_answer(
    cm: FakeCM, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = await new_question(cm)
    compares(cm)

    async def read(_: object) -> str:
        raise EOFError

    monkeypatch.setattr(module, "read_line", read)
    with pytest.raises(Exit) as caught:
        await ask(cm, question, Robot(), Answers(sas_matches="stdin"))
    assert caught.value.code == 4
    assert "ConfirmSAS" not in cm.members()


async def test_a_person_chooses_the_string_and_compares_it(cm: FakeCM) -> None:
    question = await new_question(cm)
    compares(cm)
    output = Person(What_shall_be_done="s", are_both_strings_the_same="y")
    assert await ask(cm, question, output, Answers()) == ("verified", "sas")
    assert output.event("sas")["string"] == SAS


async def test_a_person_who_sees_a_difference_rejects(cm: FakeCM) -> None:
    question = await new_question(cm)
    compares(cm)
    output = Person(What_shall_be_done="s", are_both_strings_the_same="n")
    assert await ask(cm, question, output, Answers()) == ("rejected", "")
    assert await cm.called("ConfirmSAS") == [False]


async def test_both_fingerprints_are_shown_with_whose_they_are(cm: FakeCM) -> None:
    question = await new_question(cm)
    finishes(cm, "ProceedUnverified", "unverified")
    output = Person(What_shall_be_done="p")
    assert await ask(cm, question, output, Answers()) == ("unverified", "")
    text = "\n".join(output.shown)
    assert PEER_FINGERPRINT[:23].replace(":", " ") in text
    assert OWN_FINGERPRINT[:23].replace(":", " ") in text
    assert text.index("bob@") < text.index("You")


async def test_a_fingerprint_that_was_known_verifies_only_itself(cm: FakeCM) -> None:
    question = await new_question(cm)
    finishes(cm, "Accept", "verified")
    known = PEER_FINGERPRINT.replace(":", "").lower()
    assert await ask(cm, question, Robot(), Answers(fingerprint=known)) == (
        "verified",
        "fingerprint",
    )


async def test_a_fingerprint_that_is_another_one_rejects(cm: FakeCM) -> None:
    question = await new_question(cm)
    finishes(cm, "Reject", "rejected")
    known = OWN_FINGERPRINT.replace(":", "").lower()
    assert await ask(cm, question, Robot(), Answers(fingerprint=known)) == ("rejected", "")
    assert "Accept" not in cm.members()


async def test_a_known_fingerprint_never_accepts_a_channel_in_the_clear(cm: FakeCM) -> None:
    question = await new_question(cm, encrypted=False, methods=(), reason="no-encryption")
    finishes(cm, "Reject", "rejected")
    assert await ask(cm, question, Robot(), Answers(fingerprint="ab" * 32)) == ("rejected", "")


@pytest.mark.parametrize(
    ("said", "member", "state"),
    [("y", "ProceedUnverified", "unverified"), ("n", "Reject", "rejected")],
)
async def test_going_on_in_the_clear_is_asked_as_what_it_is(
    cm: FakeCM, said: str, member: str, state: str
) -> None:
    question = await new_question(cm, encrypted=False, methods=(), reason="no-encryption")
    finishes(cm, member, state)
    output = Person(cannot_encrypt=said)
    assert await ask(cm, question, output, Answers()) == (state, "")
    assert "every server on the way" in output.asked[0]


@pytest.mark.parametrize(
    ("said", "member", "state"),
    [("proceed", "ProceedUnverified", "unverified"), ("reject", "Reject", "rejected")],
)
@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_script_says_what_happens_unverified(
    cm: FakeCM, said: str, member: str, state: str, encrypted: bool
) -> None:
    question = await new_question(cm, encrypted=encrypted)
    finishes(cm, member, state)
    assert await ask(cm, question, Robot(), Answers(on_unverified=said)) == (state, "")


async def test_a_client_that_cannot_compare_strings_is_rejected_by_a_script_that_must(
    cm: FakeCM,
) -> None:
    question = await new_question(cm, methods=("fingerprint",))
    finishes(cm, "Reject", "rejected")
    assert await ask(cm, question, Robot(), Answers(sas_matches="yes")) == ("rejected", "")
    assert "StartSAS" not in cm.members()


async def test_a_question_without_any_answer_here_stays_open(cm: FakeCM) -> None:
    question = await new_question(cm)
    output = Robot()
    assert await ask(cm, question, output, Answers()) == ("", "")
    assert output.event("question-open")["channel"] == question
    answered = {"Accept", "Reject", "ProceedUnverified", "StartSAS", "Close"}
    assert not answered & set(cm.members())


async def test_a_comparison_that_breaks_off_asks_again(cm: FakeCM) -> None:
    question = await new_question(cm)
    finishes(cm, "ProceedUnverified", "unverified")

    async def start(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        cm.set(path, PV, State=Variant("s", "comparing"))
        breaks_off(cm, path)
        return "", []

    cm.handlers["StartSAS"] = start
    output = Person()
    said = iter(("s", "p"))

    async def choose(text: str, choices: dict[str, str]) -> str:
        return next(said)

    output.decide = choose
    assert await ask(cm, question, output, Answers()) == ("unverified", "")
    assert "sas-failed" in output.names()


async def test_a_comparison_that_breaks_off_while_the_person_compares_takes_the_question_away(
    cm: FakeCM,
) -> None:
    question = await new_question(cm)
    compares(cm)
    finishes(cm, "ProceedUnverified", "unverified")
    output = Person()
    said = iter(("s", "p"))

    async def choose(text: str, choices: dict[str, str]) -> str:
        if "strings" in text:
            breaks_off(cm, question)
            await asyncio.Event().wait()
        return next(said)

    output.decide = choose
    assert await ask(cm, question, output, Answers()) == ("unverified", "")
    assert "ConfirmSAS" not in cm.members()


async def test_a_comparison_that_breaks_off_does_not_verify_for_a_script(cm: FakeCM) -> None:
    question = await new_question(cm)
    finishes(cm, "Reject", "rejected")

    async def start(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        cm.set(path, PV, State=Variant("s", "comparing"))
        breaks_off(cm, path)
        return "", []

    cm.handlers["StartSAS"] = start
    assert await ask(cm, question, Robot(), Answers(sas_matches="yes")) == ("rejected", "")


async def test_a_question_that_goes_away_stops_the_asking(cm: FakeCM) -> None:
    question = await new_question(cm)
    output = Person()

    async def choose(text: str, choices: dict[str, str]) -> str:
        cm.close(question)
        await asyncio.Event().wait()
        return ""

    output.decide = choose
    assert await ask(cm, question, output, Answers()) == ("", "")


async def test_a_trust_handler_that_was_faster_is_believed(cm: FakeCM) -> None:
    question = await new_question(cm)

    async def proceed(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        cm.finish_question(path, "verified", "pin")
        raise FakeError(names.TP + "Error.NotAvailable", "Answered already")

    cm.handlers["ProceedUnverified"] = proceed
    answers = Answers(on_unverified="proceed")
    assert await ask(cm, question, Robot(), answers) == ("verified", "pin")


async def test_policy_that_forbids_to_go_on_leaves_the_other_choices(cm: FakeCM) -> None:
    question = await new_question(cm)
    finishes(cm, "Reject", "rejected")

    async def proceed(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        raise FakeError(names.TP + "Error.PermissionDenied", "Policy forbids it")

    cm.handlers["ProceedUnverified"] = proceed
    output = Person()
    said = iter(("p", "r"))

    async def choose(text: str, choices: dict[str, str]) -> str:
        return next(said)

    output.decide = choose
    assert await ask(cm, question, output, Answers()) == ("rejected", "")
    assert "Policy forbids it" in output.event("refused")["message"]


async def test_where_verification_is_demanded_going_on_is_not_offered(cm: FakeCM) -> None:
    question = await new_question(cm)
    finishes(cm, "Reject", "rejected")
    output = Person()
    offered: list[str] = []

    async def choose(text: str, choices: dict[str, str]) -> str:
        offered.extend(choices)
        return "r"

    output.decide = choose
    await ask(cm, question, output, Answers(may_proceed=False))
    assert offered == ["s", "f", "q", "r"]


async def test_the_other_sides_beginning_is_said(cm: FakeCM) -> None:
    question = await new_question(cm)
    compares(cm)

    async def get_started(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        return "", []

    cm.emit(question, PV, "PeerStarted", "s", "sas")
    output = Person(are_both_strings_the_same="y")
    bus = await Bus.connect()
    try:
        (connection,) = await connections(bus)
        view = connection.channels[question]
        cm.emit(question, PV, "PeerStarted", "s", "sas")
        await view.wait(lambda: view.peer_started == "sas")
        output.answers["What shall be done"] = "s"
        assert await answer(view, output, Answers()) == ("verified", "sas")
    finally:
        await bus.close()
    assert output.event("peer-started")["method"] == "sas"
    assert "sas-started" not in output.names()


async def test_the_other_sides_beginning_is_said_to_who_comes_late(cm: FakeCM) -> None:
    question = await new_question(cm)
    compares(cm)
    cm.properties[question, PV]["StartedMethod"] = Variant("s", "sas")
    cm.properties[question, PV]["State"] = Variant("s", "comparing")
    output = Person(are_both_strings_the_same="y", shall_be_done="s")
    assert await ask(cm, question, output, Answers()) == ("verified", "sas")
    assert output.event("peer-started")["method"] == "sas"
    assert "sas-started" not in output.names()


async def test_the_other_sides_beginning_is_heard_while_the_person_thinks(cm: FakeCM) -> None:
    question = await new_question(cm)
    compares(cm)
    output = Person()
    menus = 0

    async def decide(text: str, choices: dict[str, str]) -> str:
        nonlocal menus
        if "strings" in text:
            return "y"
        menus += 1
        if menus == 1:
            cm.emit(question, PV, "PeerStarted", "s", "sas")
            await asyncio.Event().wait()
        return "s"

    output.decide = decide
    assert await ask(cm, question, output, Answers()) == ("verified", "sas")
    assert output.names().count("peer-started") == 1


async def test_attestations_are_shown_without_their_escapes(cm: FakeCM) -> None:
    question = await new_question(cm)
    cm.properties[question, PV]["Attestations"] = Variant(
        "a(ssay)", [["openpgp", "Bob \x1b[31m", b""]]
    )
    finishes(cm, "Reject", "rejected")
    output = Person(What_shall_be_done="r")
    await ask(cm, question, output, Answers())
    assert any("Bob \ufffd[31m" in line for line in output.shown)


@pytest.mark.parametrize(
    ("said", "member", "state"), [("y", "Accept", "verified"), ("r", "Reject", "rejected")]
)
async def test_fingerprints_are_compared_by_eye(
    cm: FakeCM, said: str, member: str, state: str
) -> None:
    question = await new_question(cm)
    finishes(cm, member, state)
    output = Person(by_another_road=said)
    assert (await ask(cm, question, output, Answers(by_eye=True)))[0] == state


async def test_who_is_not_sure_about_a_fingerprint_chooses_again(cm: FakeCM) -> None:
    question = await new_question(cm)
    finishes(cm, "ProceedUnverified", "unverified")
    output = Person(by_another_road="n", What_shall_be_done="p")
    assert await ask(cm, question, output, Answers(by_eye=True)) == ("unverified", "")
    assert "Accept" not in cm.members()


async def test_a_code_of_the_own_fingerprint_can_be_shown(cm: FakeCM) -> None:
    question = await new_question(cm)
    finishes(cm, "Reject", "rejected")
    output = Person()
    said = iter(("q", "r"))

    async def decide(text: str, choices: dict[str, str]) -> str:
        return next(said)

    output.decide = decide
    await ask(cm, question, output, Answers())
    uri = OWN_FINGERPRINT.replace(":", "").lower()
    assert any(line.endswith(uri) for line in output.shown)


# -- a shared password --------------------------------------------------------------------------

BOTH = ("fingerprint", "sas", "password")
SECRET = "what only we know"


def knows(cm: FakeCM, *right: str) -> None:
    """StartPassword verifies with these, else the question is open again with a reason."""

    async def start(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        cm.set(path, PV, State=Variant("s", "comparing"))
        if call[1] in right:
            cm.finish_question(path, "verified", "password")
        else:
            cm.emit(path, PV, "CeremonyFailed", "ssb", "password", "wrong-password", True)
            cm.set(path, PV, State=Variant("s", "pending"))
        return "", []

    cm.handlers["StartPassword"] = start


async def test_a_script_that_knows_the_password_verifies(cm: FakeCM) -> None:
    question = await new_question(cm, methods=BOTH)
    knows(cm, SECRET)
    output = Robot()
    assert await ask(cm, question, output, Answers(secret=SECRET)) == ("verified", "password")
    assert await cm.called("StartPassword") == [SECRET]
    assert output.event("answered")["method"] == "password"
    assert SECRET not in output.stream.getvalue()


async def test_a_script_with_the_wrong_password_rejects_and_says_why(cm: FakeCM) -> None:
    question = await new_question(cm, methods=BOTH)
    knows(cm, SECRET)
    finishes(cm, "Reject", "rejected")
    output = Robot()
    assert await ask(cm, question, output, Answers(secret="guess")) == ("rejected", "")
    failed = output.event("password-failed")
    assert (failed["reason"], failed["spent"]) == ("wrong-password", True)
    assert "differ" in failed["message"]
    assert cm.members().count("StartPassword") == 1


async def test_a_client_that_cannot_compare_passwords_is_said(cm: FakeCM) -> None:
    question = await new_question(cm)
    finishes(cm, "ProceedUnverified", "unverified")
    output = Robot()
    answers = Answers(secret=SECRET, on_unverified="proceed")
    assert await ask(cm, question, output, answers) == ("unverified", "")
    assert "no-password" in output.names()
    assert "StartPassword" not in cm.members()


async def test_a_person_types_it_without_echo_and_may_try_again(cm: FakeCM) -> None:
    question = await new_question(cm, methods=BOTH)
    knows(cm, SECRET)
    output = Person(What_shall_be_done="w")
    output.secrets = ["typo", SECRET]
    assert await ask(cm, question, output, Answers()) == ("verified", "password")
    assert output.names().count("password-failed") == 1
    assert output.names().count("password-started") == 2
    assert not {"typo", SECRET} & set(output.stream.getvalue().split('"'))


async def test_a_password_that_the_daemon_refuses_is_asked_for_again(cm: FakeCM) -> None:
    question = await new_question(cm, methods=BOTH)
    knows(cm, SECRET)
    accept = cm.handlers["StartPassword"]

    async def start(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        if not call[1].strip():
            raise FakeError(names.TP + "Error.InvalidArgument", "A password must not be empty")
        return await accept(path, call)

    cm.handlers["StartPassword"] = start
    output = Person(What_shall_be_done="w")
    output.secrets = ["", SECRET]
    assert await ask(cm, question, output, Answers()) == ("verified", "password")
    assert "must not be empty" in output.event("refused")["message"]


async def test_the_method_is_not_offered_where_it_cannot_be_had(cm: FakeCM) -> None:
    question = await new_question(cm)
    output = Person()
    offered: list[dict[str, str]] = []

    async def decide(text: str, choices: dict[str, str]) -> str:
        offered.append(choices)
        return "r"

    output.decide = decide
    finishes(cm, "Reject", "rejected")
    await ask(cm, question, output, Answers())
    assert "w" not in offered[0]


async def test_what_the_other_side_wants_is_said_and_that_it_came_to_nothing(cm: FakeCM) -> None:
    question = await new_question(cm, methods=BOTH)
    knows(cm, SECRET)
    output = Person()
    output.secrets = [SECRET]
    menus = 0

    async def decide(text: str, choices: dict[str, str]) -> str:
        nonlocal menus
        menus += 1
        if menus == 1:
            cm.emit(question, PV, "PeerStarted", "s", "password")
            await asyncio.Event().wait()
        if menus == 2:
            cm.emit(question, PV, "CeremonyFailed", "ssb", "password", "timeout", False)
            await asyncio.Event().wait()
        if menus == 3:
            cm.emit(question, PV, "PeerStarted", "s", "password")
            await asyncio.Event().wait()
        return "w"

    output.decide = decide
    assert await ask(cm, question, output, Answers()) == ("verified", "password")
    assert output.names().count("peer-started") == 2
    assert output.event("peer-started")["method"] == "password"
    assert "too long" in output.event("password-failed")["message"]
    assert "password-started" not in output.names()


async def test_a_password_comes_from_standard_input(
    cm: FakeCM, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def line(stream: object) -> str:
        return SECRET

    monkeypatch.setattr(module, "read_line", line)
    question = await new_question(cm, methods=BOTH)
    knows(cm, SECRET)
    answers = Answers(secret_from_stdin=True)
    assert await ask(cm, question, Robot(), answers) == ("verified", "password")

    async def nothing(stream: object) -> str:
        raise EOFError

    monkeypatch.setattr(module, "read_line", nothing)
    question = cm.add_question(cm.add_transfer(requested=True), methods=BOTH)
    with pytest.raises(Exit, match="ended before"):
        await ask(cm, question, Robot(), answers)


def test_the_password_is_not_in_what_is_shown_of_the_answers() -> None:
    assert SECRET not in repr(Answers(secret=SECRET))
    assert Answers(secret=SECRET).given
    assert Answers(secret_from_stdin=True).given
