import asyncio
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.cli import names
from telepathy_e2e.cli.secret import MAX_PASSWORD_BYTES
from tests.unit.cli_support import (
    ALICE,
    BOB,
    FT,
    FakeCM,
    FakeError,
    Person,
    Robot,
    bus_address,
    cm,
    tpe2e,
)

__all__ = ["bus_address", "cm"]


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPE2E_PASSWORD", "s3cret")


def parameters(cm: FakeCM) -> dict[str, Any]:
    (_, given) = next(body for _, member, body in cm.calls if member == "RequestConnection")
    return {name: variant.value for name, variant in given.items()}


async def test_connect_logs_in_and_leaves_the_connection_up(cm: FakeCM) -> None:
    output = Robot()
    assert await tpe2e(output, "connect", ALICE) == 0
    assert parameters(cm) == {"account": ALICE, "password": "s3cret"}
    assert output.event("connected")["connection"].startswith(names.CONNECTION_PREFIX)
    assert "disconnect" in output.event("connected")["message"]
    assert "Disconnect" not in cm.members()


async def test_connect_announces_file_transfer_before_it_connects(cm: FakeCM) -> None:
    assert await tpe2e(Robot(), "connect", ALICE) == 0
    assert cm.announced == {names.CLIENT: [FT]}
    assert cm.members().index("UpdateCapabilities") < cm.members().index("Connect")


async def test_the_password_never_appears_in_what_is_said(cm: FakeCM) -> None:
    output = Robot()
    await tpe2e(output, "connect", ALICE)
    assert "s3cret" not in output.stream.getvalue()


async def test_the_password_file_counts_before_the_environment(cm: FakeCM, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("from file\nsecond line\n")
    assert await tpe2e(Robot(), "connect", ALICE, "--password-file", str(tmp_path / "pw")) == 0
    assert parameters(cm)["password"] == "from file"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\n", b"x" * (MAX_PASSWORD_BYTES + 1)])
async def test_a_file_without_a_password_is_refused(
    cm: FakeCM, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "pw").write_bytes(content)
    assert await tpe2e(Robot(), "connect", ALICE, "--password-file", str(tmp_path / "pw")) == 2
    assert cm.calls == []


async def test_the_longest_password_is_taken(cm: FakeCM, tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes(b"x" * MAX_PASSWORD_BYTES)
    assert await tpe2e(Robot(), "connect", ALICE, "--password-file", str(tmp_path / "pw")) == 0
    assert len(parameters(cm)["password"]) == MAX_PASSWORD_BYTES


async def test_a_person_types_the_password_without_echo(
    cm: FakeCM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TPE2E_PASSWORD")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "typed")
    assert await tpe2e(Person(), "connect", ALICE) == 0
    assert parameters(cm)["password"] == "typed"


async def test_without_terminal_file_or_environment_there_is_no_password(
    cm: FakeCM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TPE2E_PASSWORD")
    assert await tpe2e(Robot(), "connect", ALICE) == 2


async def test_parameters_are_typed_as_the_daemon_declares_them(cm: FakeCM, tmp_path: Path) -> None:
    words = ("--server", "localhost", "--port", "5333", "--ca-file", str(tmp_path / "ca"))
    more = ("--param", "e2e-policy=required", "--param", "e2e-always-verify=yes")
    assert await tpe2e(Robot(), "connect", ALICE, *words, *more) == 0
    (_, given) = next(body for _, member, body in cm.calls if member == "RequestConnection")
    assert given["port"] == Variant("q", 5333)
    assert given["e2e-always-verify"] == Variant("b", True)
    assert given["e2e-policy"] == Variant("s", "required")
    assert given["ca-file"] == Variant("s", str(tmp_path / "ca"))


@pytest.mark.parametrize(
    "parameter",
    ["nonsense=1", "e2e-always-verify=perhaps", "port=70000", "port=x", "password=x", "x"],
)
async def test_a_wrong_parameter_is_refused_before_anything_starts(
    cm: FakeCM, parameter: str
) -> None:
    output = Robot()
    assert await tpe2e(output, "connect", ALICE, "--param", parameter) == 2
    assert "RequestConnection" not in cm.members()


async def test_a_wrong_password_is_said_and_the_connection_taken_down(cm: FakeCM) -> None:
    async def connect(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        error = names.TP + "Error.AuthenticationFailed"
        cm.emit(path, names.CONNECTION, "ConnectionError", "sa{sv}", error, {})
        cm.emit(path, names.CONNECTION, "StatusChanged", "uu", 2, 3)
        await cm.bus.release_name(path[1:].replace("/", "."))
        return "", []

    cm.handlers["Connect"] = connect
    output = Robot()
    assert await tpe2e(output, "connect", ALICE) == 5
    assert "does not accept" in output.event("error")["message"]


async def test_a_server_that_never_answers_ends_in_time(cm: FakeCM) -> None:
    async def connect(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        return "", []

    cm.handlers["Connect"] = connect
    output = Robot()
    assert await tpe2e(output, "connect", ALICE, "--timeout", "0.05") == 5
    assert "Disconnect" in cm.members()


async def test_without_a_daemon_it_says_how_to_get_one(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus_address)
    output = Robot()
    assert await tpe2e(output, "connect", ALICE) == 5
    assert "make install" in output.event("error")["message"]


async def test_without_a_bus_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("unix:path=/nonexistent/bus", "nonsense"):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        output = Robot()
        assert await tpe2e(output, "connect", ALICE) == 5
        assert "session bus" in output.event("error")["message"]


async def server_certificate(cm: FakeCM, path: str) -> str:
    channel = path + "/ServerTLS1"
    cm.properties[channel, names.SERVER_TLS] = {
        "ServerCertificate": Variant("o", channel + "/cert"),
        "Hostname": Variant("s", "example.org"),
    }
    cm.properties[channel + "/cert", names.TLS_CERTIFICATE] = {
        "CertificateChainData": Variant("aay", [b"certificate"]),
    }
    cm.add_channel(channel, {names.CHANNEL + ".ChannelType": Variant("s", names.SERVER_TLS)})
    return channel


@pytest.mark.parametrize(
    ("output", "member"), [(Person(Trust_it="y"), "Accept"), (Robot(), "Reject")]
)
async def test_an_unknown_server_certificate_needs_a_person(
    cm: FakeCM, output: Person, member: str
) -> None:
    async def connect(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        await server_certificate(cm, path)
        return "", []

    async def decide(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        status = 0 if call[0] == "Accept" else 2
        cm.emit(cm.connection, names.CONNECTION, "StatusChanged", "uu", status, 7)
        return "", []

    cm.handlers.update({"Connect": connect, "Accept": decide, "Reject": decide})
    code = await tpe2e(output, "connect", ALICE)
    assert member in cm.members()
    assert code == (0 if member == "Accept" else 5)
    assert len(output.event("server-certificate")["sha256"]) == 95


async def test_disconnect_logs_out(cm: FakeCM) -> None:
    await cm.add_connection(ALICE)
    output = Robot()
    assert await tpe2e(output, "disconnect") == 0
    assert output.event("disconnected")["account"] == ALICE


async def test_disconnect_of_several_wants_a_name(cm: FakeCM) -> None:
    await cm.add_connection(BOB)
    await cm.add_connection(ALICE)
    output = Robot()
    assert await tpe2e(output, "disconnect") == 2
    assert await tpe2e(output, "disconnect", "carol@example.org") == 5
    assert await tpe2e(output, "disconnect", BOB.upper()) == 0
    assert output.event("disconnected")["account"] == BOB


async def test_disconnect_of_nobody_says_so(cm: FakeCM) -> None:
    assert await tpe2e(Robot(), "disconnect") == 5


async def test_an_account_that_the_daemon_refuses_is_bad_input(cm: FakeCM) -> None:
    async def refuse(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        raise FakeError(names.TP + "Error.InvalidHandle", "That is no JID")

    cm.handlers["RequestConnection"] = refuse
    output = Robot()
    assert await tpe2e(output, "connect", "a b@c") == 2
    assert output.event("error")["message"] == "That is no JID"


async def test_a_daemon_that_dies_while_logging_in_is_noticed(cm: FakeCM) -> None:
    async def connect(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        asyncio.get_running_loop().call_soon(
            asyncio.ensure_future, cm.bus.release_name(path[1:].replace("/", "."))
        )
        return "", []

    cm.handlers["Connect"] = connect
    assert await tpe2e(Robot(), "connect", ALICE) == 5
