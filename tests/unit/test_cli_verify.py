from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.cli import names
from tests.unit.cli_support import (
    ALICE,
    BOB,
    OWN_FINGERPRINT,
    PV,
    FakeCM,
    FakeError,
    Robot,
    bus_address,
    cm,
    tpe2e,
)

__all__ = ["bus_address", "cm"]


async def running(cm: FakeCM, outcome: str = "verified") -> str:
    """An encrypted transfer whose Verify opens a question that ends as ``outcome``."""
    await cm.add_connection()
    path = cm.add_transfer(requested=True)
    cm.encrypt(path)

    async def verify(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        return "o", [cm.add_question(path, reason="upgrade")]

    cm.handlers["Verify"] = verify
    people(cm, outcome)
    return path


def people(cm: FakeCM, outcome: str) -> None:
    """A comparison ends so."""

    async def start(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        cm.set(path, PV, ShortAuthenticationString=Variant("s", "AB2C3D"))
        return "", []

    async def confirm(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        cm.finish_question(path, outcome, "sas" if outcome == "verified" else "")
        return "", []

    cm.handlers.update({"StartSAS": start, "ConfirmSAS": confirm})


@pytest.mark.parametrize("target", [(), (BOB,), ("PATH",)])
async def test_verify_opens_the_question_and_sees_it_through(
    cm: FakeCM, target: tuple[str, ...]
) -> None:
    path = await running(cm)
    words = [path if word == "PATH" else word for word in target]
    output = Robot()
    assert await tpe2e(output, "verify", *words, "--sas-matches", "yes") == 0
    assert output.event("answered")["state"] == "verified"
    assert cm.announced == {names.CLIENT + ".verify": []}


async def test_the_own_fingerprint_is_offered_to_be_scanned(cm: FakeCM) -> None:
    await running(cm)
    output = Robot()
    await tpe2e(output, "verify", "--sas-matches", "yes")
    digits = OWN_FINGERPRINT.replace(":", "").lower()
    assert output.event("own-uri")["uri"] == f"xmpp:{ALICE}?x-e2e-verify;spki-sha-256={digits}"


@pytest.mark.parametrize("target", ["", BOB, "QUESTION", "PAYLOAD"])
@pytest.mark.parametrize(("outcome", "code"), [("verified", 0), ("rejected", 4)])
async def test_a_question_about_what_is_no_channel_is_answered_by_itself(
    cm: FakeCM, target: str, outcome: str, code: int
) -> None:
    await cm.add_connection()
    people(cm, outcome)
    payload = f"{cm.connection}/XMLStream1"
    question = cm.add_question(payload, reason="continuity")
    words = {"": (), "QUESTION": (question,), "PAYLOAD": (payload,)}.get(target, (target,))
    output = Robot()
    assert await tpe2e(output, "verify", *words, "--sas-matches", "yes") == code
    assert output.event("answered")["state"] == outcome


@pytest.mark.parametrize("outcome", ["rejected", "unverified"])
async def test_anything_but_verified_is_exit_code_4(cm: FakeCM, outcome: str) -> None:
    await running(cm, outcome)
    assert await tpe2e(Robot(), "verify", "--sas-matches", "no") == 4


async def test_before_the_handshake_it_waits_for_the_question(cm: FakeCM) -> None:
    path = await running(cm)
    output = Robot()

    async def verify(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        cm.start(later())
        return "o", ["/"]

    async def later() -> None:
        cm.add_question(path)

    cm.handlers["Verify"] = verify
    assert await tpe2e(output, "verify", "--sas-matches", "yes") == 0


async def test_a_channel_that_ends_meanwhile_was_not_verified(cm: FakeCM) -> None:
    path = await running(cm)

    async def verify(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        cm.start(later())
        return "o", ["/"]

    async def later() -> None:
        cm.close(path)

    cm.handlers["Verify"] = verify
    assert await tpe2e(Robot(), "verify", "--sas-matches", "yes") == 4


async def test_a_channel_in_the_clear_cannot_be_verified(cm: FakeCM) -> None:
    await running(cm)

    async def verify(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        raise FakeError(names.TP + "Error.NotAvailable", "This channel is not encrypted")

    cm.handlers["Verify"] = verify
    output = Robot()
    assert await tpe2e(output, "verify", "--sas-matches", "yes") == 4
    assert "not encrypted" in output.event("error")["message"]


async def test_the_path_of_the_question_does_as_well(cm: FakeCM) -> None:
    path = await running(cm)
    question = cm.add_question(path)

    async def verify(_: str, __: list[Any]) -> tuple[str, list[Any]]:
        return "o", [question]

    cm.handlers["Verify"] = verify
    assert await tpe2e(Robot(), "verify", question, "--sas-matches", "yes") == 0


@pytest.mark.parametrize(
    ("target", "code"),
    [("bob", 2), ("/a b", 2), ("carol@example.org", 5), ("/no/such/channel", 5)],
)
async def test_a_target_that_is_not_there_is_said(cm: FakeCM, target: str, code: int) -> None:
    await running(cm)
    assert await tpe2e(Robot(), "verify", target, "--sas-matches", "yes") == code


async def test_of_several_channels_one_must_be_named(cm: FakeCM) -> None:
    path = await running(cm)
    other = cm.add_transfer(requested=True)
    output = Robot()
    assert await tpe2e(output, "verify", BOB, "--sas-matches", "yes") == 2
    assert path in output.event("error")["message"]
    assert other in output.event("error")["message"]


async def test_without_anything_running_it_says_so(cm: FakeCM) -> None:
    assert await tpe2e(Robot(), "verify", "--sas-matches", "yes") == 5
    await cm.add_connection()
    output = Robot()
    assert await tpe2e(output, "verify", "--sas-matches", "yes") == 5
    assert "start a transfer" in output.event("error")["message"]


async def test_nobody_to_ask_and_no_answer_is_bad_input(cm: FakeCM) -> None:
    await running(cm)
    for words in ((), ("--sas",), ("--fingerprint",)):
        assert await tpe2e(Robot(), "verify", *words) == 2
    assert "Verify" not in cm.members()
