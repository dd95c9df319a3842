from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.cli import names
from tests.unit.cli_support import (
    ALICE,
    BOB,
    PEER_FINGERPRINT,
    FakeCM,
    Robot,
    bus_address,
    cm,
    tpe2e,
)

__all__ = ["bus_address", "cm"]


@pytest.fixture(autouse=True)
def _memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what the user who runs this remembers."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


async def test_nobody_logged_in_is_not_an_error(cm: FakeCM) -> None:
    output = Robot()
    assert await tpe2e(output, "status") == 0
    assert output.names() == ["nothing"]


async def test_connections_contacts_channels_and_their_protection(cm: FakeCM) -> None:
    await cm.add_connection()
    path = cm.add_transfer(requested=True)
    cm.encrypt(path)
    cm.add_question(path)
    output = Robot()
    assert await tpe2e(output, "status") == 0
    assert output.event("connection")["account"] == ALICE
    assert output.event("contact")["contact"] == BOB
    assert output.event("contact")["file_transfer"] is True
    transfer = output.event("transfer")
    assert transfer["channel"] == path
    assert transfer["direction"] == "outgoing"
    assert transfer["protection"] == "encrypted"
    assert transfer["peer_fingerprints"] == {"sha-256": PEER_FINGERPRINT}
    assert output.event("question-open")["payload"] == path
    assert any("AB AB AB" in line for line in output.shown)


async def test_a_call_is_shown_with_its_state_and_protection(cm: FakeCM) -> None:
    await cm.add_connection()
    path = cm.add_call(requested=False, state=names.CallState.ACTIVE)
    cm.encrypt(path)
    output = Robot()
    assert await tpe2e(output, "status") == 0
    shown = output.event("channel")
    assert (shown["type"], shown["state"]) == (names.CALL, "talking")
    assert (shown["direction"], shown["protection"]) == ("incoming", "encrypted")
    assert any("AB AB AB" in line for line in output.shown)


async def test_a_tube_is_shown_with_its_service_state_and_protection(cm: FakeCM) -> None:
    await cm.add_connection()
    path = cm.add_tube(requested=True)
    cm.tube_state(path, names.TubeState.OPEN)
    cm.encrypt(path)
    output = Robot()
    assert await tpe2e(output, "status") == 0
    shown = output.event("channel")
    assert (shown["type"], shown["service"]) == (names.STREAM_TUBE, "http")
    assert (shown["state"], shown["direction"]) == ("open", "outgoing")
    assert shown["protection"] == "encrypted"


async def test_the_roster_counts_where_there_is_one(cm: FakeCM) -> None:
    await cm.add_connection()

    async def roster(_: str, __: list[Any]) -> tuple[str, list[Any]]:
        return "a{ua{sv}}", [{7: cm.contact()}]

    cm.handlers["GetContactListAttributes"] = roster
    output = Robot()
    assert await tpe2e(output, "status") == 0
    assert output.event("contact")["contact"] == BOB


async def test_a_contacts_words_cannot_clear_the_screen(cm: FakeCM) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False)
    output = Robot()
    await tpe2e(output, "status")
    assert "\x1b" not in output.event("contact")["message"]


async def test_a_pending_transfer_is_not_called_unprotected_yet(cm: FakeCM) -> None:
    await cm.add_connection()
    path = cm.add_transfer(requested=False)
    output = Robot()
    await tpe2e(output, "status")
    assert "NOT PROTECTED" not in output.event("transfer")["message"]
    cm.state(path, names.OPEN)
    output = Robot()
    await tpe2e(output, "status")
    assert "NOT PROTECTED" in output.event("transfer")["message"]


async def test_other_channels_are_named(cm: FakeCM) -> None:
    await cm.add_connection()
    cm.add_channel(
        cm.connection + "/Text1",
        {
            names.CHANNEL + ".ChannelType": Variant("s", names.CHANNEL + ".Type.Text"),
            names.CHANNEL + ".TargetID": Variant("s", BOB),
        },
    )
    output = Robot()
    assert await tpe2e(output, "status") == 0
    assert output.event("channel")["type"].endswith(".Text")


async def test_one_account_can_be_picked(cm: FakeCM) -> None:
    await cm.add_connection(ALICE)
    await cm.add_connection(BOB)
    output = Robot()
    assert await tpe2e(output, "status", "--account", BOB) == 0
    assert [e["account"] for e in output.events if e["event"] == "connection"] == [BOB]
    assert await tpe2e(output, "status", "--account", "carol@example.org") == 5


async def test_a_disconnected_connection_has_no_contacts_to_ask_for(cm: FakeCM) -> None:
    await cm.add_connection(ALICE, names.CONNECTING)
    output = Robot()
    assert await tpe2e(output, "status") == 0
    assert output.event("connection")["status"] == "connecting"
    assert "GetContactListAttributes" not in cm.members()
