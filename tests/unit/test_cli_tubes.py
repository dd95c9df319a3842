import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import pytest
from dbus_fast import Variant

from telepathy_e2e.cli import names, tube_offer
from telepathy_e2e.cli.bus import Bus
from telepathy_e2e.cli.exits import UsageError
from telepathy_e2e.cli.names import TubeState
from telepathy_e2e.cli.tube_offer import read_parameters
from telepathy_e2e.cli.views import the_connection
from tests.unit.cli_support import (
    BOB,
    PATIENCE,
    PV,
    FakeCM,
    FakeError,
    FakeSocket,
    Person,
    Robot,
    bus_address,
    cm,
    tpe2e,
)

__all__ = ["bus_address", "cm"]

TYPE = names.CHANNEL + ".ChannelType"
CAROL = "carol@example.org"
Story = Callable[[str], Coroutine[Any, Any, None]]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what no signal tells."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.002)


class Tubes:
    """What the daemon does with tubes: ``offered`` and ``accepted`` are what happens after that."""

    def __init__(self, cm: FakeCM, directory: Path) -> None:
        self.cm = cm
        self.directory = directory
        self.request: dict[str, Any] = {}
        self.offered: Story = self.open
        self.accepted: Story = self.open
        self.sockets: dict[str, FakeSocket] = {}
        self.classes: dict[str, list[dict[str, str]]] = {}
        self.outputs: list[Person] = []
        cm.handlers["CreateChannel"] = self._create
        cm.handlers["Offer"] = self._offer
        cm.handlers["Accept"] = self._accept
        cm.handlers["UpdateCapabilities"] = self._update

    async def _create(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        self.request = {name: variant.value for name, variant in call[1].items()}
        path = self.cm.add_tube(
            requested=True, announce=False, dbus=self.request[TYPE] == names.DBUS_TUBE
        )
        asyncio.get_running_loop().call_soon(self.cm.announce, path)
        return "oa{sv}", [path, self.cm.channels[path]]

    async def _offer(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        self.cm.tube_state(path, TubeState.REMOTE_PENDING)
        self.cm.start(self.offered(path))
        return ("", []) if len(call) == 5 else ("s", ["unix:path=/run/bus"])

    async def _accept(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        self.cm.start(self.accepted(path))
        if len(call) == 2:
            return "s", ["unix:path=/run/bus"]
        if call[1] == names.IPV4:
            return "v", [Variant("(sq)", ["127.0.0.1", 9])]
        self.sockets[path] = self.cm.socket(self.directory)
        return self.sockets[path].reply

    async def _update(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        for client, classes, _ in call[1]:
            self.classes[client] = [
                {name.rpartition(".")[2]: value.value for name, value in each.items()}
                for each in classes
            ]
        return "", []

    async def open(self, path: str) -> None:
        self.cm.encrypt(path)
        self.cm.tube_state(path, TubeState.OPEN)

    def ends(self, error: str, message: str = "", *, opened: bool = True) -> Story:
        """Open (or not), and over at once."""

        async def story(path: str) -> None:
            if opened:
                await self.open(path)
                # What was open must have been seen to be, as people do.
                await until(lambda: any("open" in each.names() for each in self.outputs))
            self.cm.tube_ends(path, error, message)

        return story


@pytest.fixture
async def tubes(cm: FakeCM, tmp_path: Path) -> Tubes:
    await cm.add_connection()
    return Tubes(cm, tmp_path)


async def run(tubes: Tubes, output: Person, *words: str) -> int:
    tubes.outputs.append(output)
    return await tpe2e(output, *words)


# -- offering ---------------------------------------------------------------------------------


async def test_a_service_is_offered_with_its_address_and_parameters(tubes: Tubes) -> None:
    tubes.offered = tubes.ends("Terminated", "The contact closed the tube")
    robot = Robot()
    words = ("--param", "path=/a", "--param", "n:u=7")
    assert await run(tubes, robot, "tube", "offer", BOB, "http", "127.0.0.1:80", *words) == 0
    assert tubes.request == {
        TYPE: names.STREAM_TUBE,
        names.CHANNEL + ".TargetHandleType": 1,
        names.CHANNEL + ".TargetID": BOB,
        names.STREAM_TUBE + ".Service": "http",
    }
    kind, address, control, parameters = await tubes.cm.called("Offer")
    assert (kind, control) == (names.IPV4, names.LOCALHOST)
    assert (address.signature, list(address.value)) == ("(sq)", ["127.0.0.1", 80])
    assert parameters == {"path": Variant("s", "/a"), "n": Variant("u", 7)}
    assert [each for each in robot.names() if each != "protection"] == ["offered", "open", "done"]
    done = robot.event("done")
    assert (done["contact"], done["service"], done["closed_by"]) == (BOB, "http", "there")
    assert done["protection"] == "encrypted"
    assert tubes.classes == {}


async def test_each_connection_is_told_with_its_number_and_why_it_is_over(
    cm: FakeCM, tubes: Tubes
) -> None:
    robot = Robot()

    async def story(path: str) -> None:
        await tubes.open(path)
        stream = names.STREAM_TUBE
        for number in (1, 2, 3):
            cm.emit(path, stream, "NewRemoteConnection", "uvu", 2, Variant("y", 0), number)
        for number, error in ((2, "Cancelled"), (1, "ConnectionLost"), (4, "ConnectionRefused")):
            cm.emit(
                path, stream, "ConnectionClosed", "uss", number, names.TP + "Error." + error, ""
            )
        await until(lambda: "open" in robot.names())
        cm.tube_ends(path, "Terminated")

    tubes.offered = story
    assert await run(tubes, robot, "tube", "offer", BOB, "http", "80") == 0
    told = [
        (each["event"], each["number"], each["open"])
        for each in robot.events
        if each["event"].startswith("connection")
    ]
    assert told == [
        ("connection", 1, 1),
        ("connection", 2, 2),
        ("connection", 3, 3),
        ("connection-closed", 2, 2),
        ("connection-closed", 1, 1),
        ("connection-closed", 4, 1),
    ]
    assert "nothing answers at 127.0.0.1:80" in robot.event("connection-closed")["message"]
    assert robot.event("done")["connections"] == 3


@pytest.mark.parametrize(
    ("error", "opened", "code"),
    [
        ("Terminated", True, 0),
        ("Cancelled", True, 0),
        ("Terminated", False, 1),
        ("Cancelled", False, 1),
        ("NetworkError", True, 1),
        ("NetworkError", False, 1),
        ("EncryptionError", True, 4),
        ("EncryptionNotAvailable", False, 3),
        ("Disconnected", True, 5),
    ],
)
async def test_the_exit_code_says_how_a_tube_ended(
    tubes: Tubes, error: str, opened: bool, code: int
) -> None:
    tubes.offered = tubes.ends(error, "It is so", opened=opened)
    robot = Robot()
    assert await run(tubes, robot, "tube", "offer", BOB, "http", "80") == code
    if code:
        assert robot.event("error")["error"] == names.TP + "Error." + error
        assert "It is so" in robot.event("error")["message"]


async def test_a_demand_goes_into_the_request_and_is_checked_again(tubes: Tubes) -> None:
    async def story(path: str) -> None:
        tubes.cm.tube_state(path, TubeState.OPEN)  # in the clear, whatever was asked for

    tubes.offered = story
    robot = Robot()
    words = ("tube", "offer", BOB, "http", "80", "--require", "encrypted")
    assert await run(tubes, robot, *words) == 3
    assert tubes.request[names.SECURITY + ".RequireEncrypted"] is True
    assert "open" not in robot.names()
    assert tubes.cm.channels == {}


async def test_who_is_to_be_verified_is_asked_about_before_the_offer(tubes: Tubes) -> None:
    tubes.offered = tubes.ends("Terminated")
    words = ("tube", "offer", BOB, "http", "80", "--verify", "--sas-matches", "yes")
    assert await run(tubes, Robot(), *words) == 0
    members = tubes.cm.members()
    assert members.index("Verify") < members.index("Offer")
    (classes,) = tubes.classes.values()
    assert classes == []  # taken back
    assert await run(tubes, Robot(), "tube", "offer", BOB, "x", "80", "--verify") == 2


async def test_a_no_to_the_question_ends_the_tube(cm: FakeCM, tubes: Tubes) -> None:
    async def story(path: str) -> None:
        cm.encrypt(path)
        question = cm.add_question(path)

        async def reject(path: str, call: list[Any]) -> tuple[str, list[Any]]:
            cm.finish_question(question, "rejected")
            return "", []

        cm.handlers["Reject"] = reject

    tubes.offered = story
    words = ("tube", "offer", BOB, "http", "80", "--require", "verified", "--on-unverified")
    assert await run(tubes, Robot(), *words, "reject") == 4
    assert cm.channels == {}


async def test_what_the_daemon_refuses_is_said(tubes: Tubes) -> None:
    async def refuse(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        raise FakeError(names.TP + "Error.NotAvailable", "Bob's programs take no tubes")

    tubes.cm.handlers["Offer"] = refuse
    robot = Robot()
    assert await run(tubes, robot, "tube", "offer", BOB, "http", "80") == 1
    assert "take no tubes" in robot.event("error")["message"]
    assert tubes.cm.channels == {}


async def test_a_private_bus_is_offered_and_its_address_told(tubes: Tubes) -> None:
    tubes.offered = tubes.ends("Terminated")
    robot = Robot()
    assert await run(tubes, robot, "tube", "offer", BOB, "com.example.Game", "--dbus") == 0
    assert tubes.request[names.DBUS_TUBE + ".ServiceName"] == "com.example.Game"
    assert await tubes.cm.called("Offer") == [{}, names.CREDENTIALS]
    assert robot.event("open")["address"] == "unix:path=/run/bus"
    # Its connections are not told, so there are none to be counted.
    assert "closed the private bus after" in robot.event("done")["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("offer", BOB, "http"),
        ("offer", BOB, "http", "80", "--dbus"),
        ("offer", "bob", "http", "80"),
        ("offer", BOB, "http", "80", "--param", "x"),
        ("accept", "bob@", "http", "--listen", "192.0.2.1:80", "--yes"),
        ("accept", "com.example.Game", "--dbus", "--listen", "80", "--yes"),
        ("accept", "http"),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_happens(
    tubes: Tubes, words: tuple[str, ...]
) -> None:
    assert await run(tubes, Robot(), "tube", *words) == 2
    assert tubes.cm.calls == []


def test_parameters_have_types() -> None:
    said = ["a=b=c", "s:s=", "n:i=-5", "yes:b=true", "url:port=80", "big:t=18446744073709551615"]
    assert read_parameters(said) == {
        "a": Variant("s", "b=c"),
        "s": Variant("s", ""),
        "n": Variant("i", -5),
        "yes": Variant("b", True),
        "url:port": Variant("s", "80"),
        "big": Variant("t", 2**64 - 1),
    }
    for bad in ("x", "=x", ":u=1", "x:u=-1", "x:y=256", "x:b=yes", "x:u=1.5"):
        with pytest.raises(UsageError):
            read_parameters([bad])
    with pytest.raises(UsageError, match="twice"):
        read_parameters(["x=1", "x:u=1"])


# -- accepting --------------------------------------------------------------------------------


async def test_programs_get_through_a_socket_of_the_users_choice(
    cm: FakeCM, tubes: Tubes, tmp_path: Path
) -> None:
    place, robot = tmp_path / "here", Robot()

    async def story(path: str) -> None:
        await tubes.open(path)
        await until(lambda: "open" in robot.names())
        reader, writer = await asyncio.open_unix_connection(place)
        far_reader, far_writer = await tubes.sockets[path].accept()
        writer.write(b"question")
        writer.write_eof()
        assert await far_reader.read() == b"question"
        far_writer.write(b"answer")
        far_writer.close()
        assert await reader.read() == b"answer"
        writer.close()
        cm.tube_ends(path, "Terminated")

    tubes.accepted = story
    cm.add_tube(requested=False, parameters={"u": Variant("s", "alice"), "c": Variant("ay", b"12")})
    words = ("tube", "accept", BOB, "http", "--yes", "--unix", str(place))
    assert await run(tubes, robot, *words) == 0
    assert robot.event("tube")["parameters"] == {"u": "alice", "c": "MTI="}
    assert robot.event("open")["address"] == f"unix:{place}"
    assert (await cm.called("Accept"))[:2] == [names.UNIX, names.LOCALHOST]
    done = robot.event("done")
    assert (done["bytes_sent"], done["bytes_received"]) == (8, 6)
    assert not place.exists()


async def test_without_a_place_the_daemons_own_is_told(cm: FakeCM, tubes: Tubes) -> None:
    tubes.accepted = tubes.ends("Terminated")
    path = cm.add_tube(requested=False)
    robot = Robot()
    assert await run(tubes, robot, "tube", "accept", "--yes") == 0
    assert robot.event("open")["address"] == f"unix:{tubes.sockets[path].path}"


async def test_only_what_was_named_is_taken_and_announced(cm: FakeCM, tubes: Tubes) -> None:
    tubes.accepted = tubes.ends("Terminated")
    cm.add_tube(requested=False, service="ssh")
    cm.add_tube(requested=False, contact=CAROL)
    cm.add_tube(requested=False, dbus=True)
    announced: list[list[dict[str, str]]] = []

    async def update(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        answer = await tubes._update(path, call)
        announced.extend(tubes.classes.values())
        if len(announced) == 1:
            cm.add_tube(requested=False)
        return answer

    cm.handlers["UpdateCapabilities"] = update
    robot = Robot()
    assert await run(tubes, robot, "tube", "accept", BOB, "http", "--yes") == 0
    assert announced == [
        [{"ChannelType": names.STREAM_TUBE, "TargetHandleType": 1, "Service": "http"}],
        [],
    ]
    assert cm.members().count("Accept") == 1
    assert len(cm.channels) == 3


async def test_one_word_is_a_service(cm: FakeCM, tubes: Tubes) -> None:
    tubes.accepted = tubes.ends("Terminated")
    cm.add_tube(requested=False, service="com.example.Game", dbus=True)
    robot = Robot()
    words = ("tube", "accept", "com.example.Game", "--dbus", "--yes")
    assert await run(tubes, robot, *words) == 0
    assert await cm.called("Accept") == [names.CREDENTIALS]
    assert robot.event("open")["address"] == "unix:path=/run/bus"
    assert robot.event("waiting")["service"] == "com.example.Game"


async def test_a_no_declines_and_the_next_one_is_asked_about(cm: FakeCM, tubes: Tubes) -> None:
    tubes.accepted = tubes.ends("Terminated")
    first = cm.add_tube(requested=False)
    person = Person()

    async def decide(question: str, choices: dict[str, str]) -> str:
        if len(person.asked) == 1:
            return "n"
        return "y"

    async def close(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        cm.close(path)
        if path == first:
            cm.add_tube(requested=False, service="other")
        return "", []

    person.decide = decide
    cm.handlers["Close"] = close
    assert await run(tubes, person, "tube", "accept") == 0
    assert person.event("declined")["service"] == "http"
    assert person.event("done")["service"] == "other"


async def test_who_must_be_verified_is_asked_about_before_the_tube_is_taken(
    cm: FakeCM, tubes: Tubes
) -> None:
    async def verified(path: str) -> None:
        cm.verified(path)
        await tubes.open(path)
        cm.tube_ends(path, "Terminated")

    tubes.accepted = verified
    cm.add_tube(requested=False)
    words = ("tube", "accept", "--yes", "--require", "verified", "--sas-matches", "yes")
    await run(tubes, Robot(), *words)
    members = cm.members()
    assert members.index("Verify") < members.index("Accept")


async def test_a_daemon_that_cannot_tell_users_apart_lets_any_of_them_to_a_private_bus(
    cm: FakeCM, tubes: Tubes
) -> None:
    tubes.accepted = tubes.ends("Terminated")
    path = cm.add_tube(requested=False, dbus=True)
    cm.properties[path, names.DBUS_TUBE]["SupportedAccessControls"] = Variant("au", [0])
    assert await run(tubes, Robot(), "tube", "accept", "--dbus", "--yes") == 0
    assert await cm.called("Accept") == [names.LOCALHOST]


async def test_an_answer_does_not_undo_what_a_signal_has_said_since(
    cm: FakeCM, tubes: Tubes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cm.add_tube(requested=False)
    bus = await Bus.connect()
    channel = (await the_connection(bus, None)).channels[path]
    get_all, asked = cm._get_all, 0

    def crossed(path: str, interface: str) -> dict[str, Variant]:
        nonlocal asked
        asked += 1
        old = dict(get_all(path, interface))
        if asked == 1:
            cm.set(path, interface, Error=Variant("s", "new"))
        return old

    monkeypatch.setattr(cm, "_get_all", crossed)
    await channel.read(names.SECURITY)
    assert channel.get(names.SECURITY, "Error") == "new"
    assert asked == 2
    await bus.close()


async def test_an_offer_that_goes_while_somebody_thinks_is_not_waited_for(
    cm: FakeCM, tubes: Tubes
) -> None:
    tubes.accepted = tubes.ends("Terminated")
    first = cm.add_tube(requested=False)
    person = Person()

    async def decide(question: str, choices: dict[str, str]) -> str:
        if len(person.asked) == 1:
            cm.tube_ends(first, "Terminated")
            cm.add_tube(requested=False, service="other")
            await asyncio.Event().wait()
        return "y"

    person.decide = decide
    assert await run(tubes, person, "tube", "accept") == 0
    assert person.event("withdrawn")["service"] == "http"


async def test_what_another_program_took_is_left_to_it(cm: FakeCM, tubes: Tubes) -> None:
    tubes.accepted = tubes.ends("Terminated")
    theirs = cm.add_tube(requested=False, service="theirs")

    async def accept(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        if path == theirs:
            cm.add_tube(requested=False, service="ours")
            raise FakeError(names.TP + "Error.NotAvailable", "accepted already")
        return await tubes._accept(path, call)

    cm.handlers["Accept"] = accept
    robot = Robot()
    assert await run(tubes, robot, "tube", "accept", "--yes") == 0
    assert robot.event("withdrawn")["service"] == "theirs"
    assert list(cm.channels) == [theirs]


async def test_what_is_open_already_is_no_offer(cm: FakeCM, tubes: Tubes) -> None:
    tubes.accepted = tubes.ends("Terminated")
    theirs = cm.add_tube(requested=False, service="theirs")
    cm.properties[theirs, names.TUBE]["State"] = Variant("u", TubeState.OPEN)
    cm.add_tube(requested=False, service="ours")
    robot = Robot()
    assert await run(tubes, robot, "tube", "accept", "--yes") == 0
    assert robot.event("tube")["service"] == "ours"


async def test_nothing_listens_where_the_tube_is_less_protected_than_demanded(
    cm: FakeCM, tubes: Tubes, tmp_path: Path
) -> None:
    place = tmp_path / "here"

    async def story(path: str) -> None:
        cm.tube_state(path, TubeState.OPEN)

    tubes.accepted = story
    cm.add_tube(requested=False)
    robot = Robot()
    words = ("tube", "accept", "--yes", "--unix", str(place), "--require", "encrypted")
    assert await run(tubes, robot, *words) == 3
    assert "open" not in robot.names()
    assert cm.channels == {}


@pytest.mark.parametrize("words", [("tube", "accept", "--yes"), ("forward", "0", BOB, "http")])
async def test_an_account_that_logs_out_ends_the_waiting(
    cm: FakeCM, tubes: Tubes, words: tuple[str, ...]
) -> None:
    robot = Robot()
    task = asyncio.get_running_loop().create_task(run(tubes, robot, *words))
    await until(lambda: "waiting" in robot.names())
    cm.emit(cm.connection, names.CONNECTION, "StatusChanged", "uu", names.DISCONNECTED, 1)
    assert await task == 5


# -- forwarding -------------------------------------------------------------------------------


class Forward:
    """``tpe2e forward``, running."""

    def __init__(self, tubes: Tubes, place: Path, *words: str) -> None:
        self.tubes = tubes
        self.place = place
        self.robot = Robot()
        self.words = ("forward", f"unix:{place}", BOB, "http", *words)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(run(self.tubes, self.robot, *self.words))
        await self.event("waiting")
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        assert not self.place.exists()

    async def event(self, name: str, count: int = 1) -> dict[str, Any]:
        await until(lambda: self.robot.names().count(name) >= count or self.task.done())
        return [each for each in self.robot.events if each["event"] == name][count - 1]

    async def reaches(self, path: str) -> None:
        """A program that connects comes to this tube."""
        _, writer = await asyncio.open_unix_connection(self.place)
        _, far = await self.tubes.sockets[path].accept()
        far.close()
        writer.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


async def test_one_offer_after_the_other_is_behind_the_same_port(
    cm: FakeCM, tubes: Tubes, place: Path
) -> None:
    first = cm.add_tube(requested=False)  # before anybody waits for it
    async with Forward(tubes, place) as forward:
        await forward.event("open")
        await forward.reaches(first)
        cm.tube_ends(first, "NetworkError", "The connection to the contact broke")
        closed = await forward.event("closed")
        assert closed["error"] == names.TP + "Error.NetworkError"
        second = cm.add_tube(requested=False)
        await forward.event("open", 2)
        await forward.reaches(second)
        cm.tube_ends(second, "Terminated")
        assert (await forward.event("closed", 2))["error"] == ""
    (classes,) = tubes.classes.values()
    assert classes == []


async def test_the_newest_offer_is_in_the_place_of_one_that_may_be_dead(
    cm: FakeCM, tubes: Tubes, place: Path
) -> None:
    first = cm.add_tube(requested=False)
    async with Forward(tubes, place) as forward:
        await forward.event("open")
        second = cm.add_tube(requested=False)
        await forward.event("open", 2)
        await forward.reaches(second)
        cm.tube_ends(second, "Terminated")
        await forward.event("closed")
        await forward.reaches(first)
    assert cm.channels == {}


async def test_nobody_elses_offer_is_taken(cm: FakeCM, tubes: Tubes, place: Path) -> None:
    others = [
        cm.add_tube(requested=False, contact=CAROL),
        cm.add_tube(requested=False, service="ssh"),
        cm.add_tube(requested=True),
    ]
    async with Forward(tubes, place) as forward:
        ours = cm.add_tube(requested=False, contact=BOB + "/desk")
        await forward.event("open")
        await forward.reaches(ours)
    assert list(cm.channels) == others
    assert cm.members().count("Accept") == 1


@pytest.mark.parametrize("verified", ["before", "later"])
@pytest.mark.parametrize("still_open", [True, False])
async def test_a_tube_is_not_followed_by_one_that_is_less_protected(
    cm: FakeCM, tubes: Tubes, place: Path, verified: str, still_open: bool
) -> None:
    async def story(path: str) -> None:
        cm.encrypt(path)
        if verified == "before":
            cm.verified(path)
        cm.tube_state(path, TubeState.OPEN)
        await forward.event("open")
        if verified == "later":
            cm.verified(path)
        await until(lambda: forward.robot.event("protection")["verified"])

    tubes.accepted = story
    first = cm.add_tube(requested=False)
    async with Forward(tubes, place) as forward:
        await forward.event("open")
        await until(lambda: forward.robot.event("protection")["verified"])
        if not still_open:
            cm.tube_ends(first, "NetworkError")
            await forward.event("closed")
        assert "Verify" not in cm.members()
        tubes.accepted = tubes.open  # encrypted, by whomever
        cm.add_tube(requested=False)
        assert await forward.task == 3
        assert "Verify" in cm.members()
        assert forward.robot.names().count("open") == 1
    assert cm.channels == {}


async def test_a_contact_who_fails_verification_ends_it(
    cm: FakeCM, tubes: Tubes, place: Path
) -> None:
    tubes.accepted = tubes.ends("EncryptionError", "tampered", opened=False)
    async with Forward(tubes, place) as forward:
        cm.add_tube(requested=False)
        assert await forward.task == 4
        assert forward.robot.event("error")["message"] == "tampered"


async def test_a_question_that_nobody_here_can_answer_is_told_once_for_each_beginning(
    cm: FakeCM, tubes: Tubes, place: Path
) -> None:
    async def story(path: str) -> None:
        await tubes.open(path)
        question = cm.add_question(path)
        cm.emit(question, PV, "PeerStarted", "s", "sas")
        await forward.event("question-open")
        cm.emit(question, PV, "CeremonyFailed", "ssb", "sas", "timeout", False)
        cm.emit(question, PV, "PeerStarted", "s", "sas")
        await forward.event("question-open", 2)
        cm.tube_ends(path, "Terminated")

    tubes.accepted = story
    async with Forward(tubes, place) as forward:
        cm.add_tube(requested=False)
        await forward.event("closed")
        assert forward.robot.names().count("question-open") == 2


async def test_what_another_program_took_does_not_end_forwarding(
    cm: FakeCM, tubes: Tubes, place: Path
) -> None:
    async def taken(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        raise FakeError(names.TP + "Error.NotAvailable", "accepted already")

    cm.handlers["Accept"] = taken
    async with Forward(tubes, place) as forward:
        theirs = cm.add_tube(requested=False)
        await forward.event("withdrawn")
        cm.handlers["Accept"] = tubes._accept
        cm.add_tube(requested=False)
        await forward.event("open")
    assert list(cm.channels) == [theirs]


async def test_a_port_that_is_taken_is_found_out_before_anything_else(tubes: Tubes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert await run(tubes, Robot(), "forward", str(port), BOB, "http") == 2
    assert await run(tubes, Robot(), "forward", "0.0.0.0:0", BOB, "http") == 2
    assert tubes.cm.calls == []


async def test_an_interruption_closes_the_tube_and_takes_the_announcement_back(
    cm: FakeCM, tubes: Tubes, place: Path
) -> None:
    cm.add_tube(requested=False)
    async with Forward(tubes, place) as forward:
        await forward.event("open")
        (classes,) = tubes.classes.values()
        assert [each["ChannelType"] for each in classes] == [names.STREAM_TUBE]
        forward.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forward.task
    assert cm.channels == {}
    assert list(tubes.classes.values()) == [[]]


async def test_who_is_interrupted_twice_ends_without_a_word_more(
    cm: FakeCM, tubes: Tubes, place: Path
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))

    async def slowly(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        asked.set()
        await answer.wait()
        return "", []

    async with Forward(tubes, place) as forward:
        before = asyncio.all_tasks()
        cm.handlers["UpdateCapabilities"] = slowly
        forward.task.cancel()
        await asked.wait()
        left = asyncio.all_tasks() - before
        forward.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forward.task
        answer.set()
        while not all(task.done() for task in left):
            await asyncio.sleep(0)
        del left
        gc.collect()
        await asyncio.sleep(0)
    assert unheard == []


async def test_a_daemon_that_dies_ends_it(cm: FakeCM, tubes: Tubes, place: Path) -> None:
    async with Forward(tubes, place) as forward:
        cm.add_tube(requested=False)
        await forward.event("open")
        await cm.bus.release_name(cm.connection[1:].replace("/", "."))
        assert await forward.task == 5


# -- offering whenever somebody waits ---------------------------------------------------------


class Keep:
    """``tpe2e tube offer --keep``, running, and what the contact's program waits for."""

    def __init__(self, tubes: Tubes, *words: str) -> None:
        self.tubes = tubes
        self.robot = Robot()
        self.words = ("tube", "offer", BOB, "http", "80", "--keep", *words)
        self.services: list[str] = []
        tubes.cm.handlers["GetContactByID"] = self._contact

    def _classes(self) -> list[Any]:
        kind = {TYPE: Variant("s", names.STREAM_TUBE)}
        service = names.STREAM_TUBE + ".Service"
        named = [{**kind, service: Variant("s", each)} for each in self.services]
        return [[each, []] for each in (kind, *named)]

    async def _contact(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        found = Variant("a(a{sv}as)", self._classes())
        return "ua{sv}", [2, {names.CONTACT_CAPABILITIES + "/capabilities": found}]

    def wait_for(self, *services: str) -> None:
        cm = self.tubes.cm
        self.services = list(services)
        changed = {2: self._classes()}
        interface = names.CONTACT_CAPABILITIES
        cm.emit(cm.connection, interface, "ContactCapabilitiesChanged", "a{ua(a{sv}as)}", changed)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(run(self.tubes, self.robot, *self.words))
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def event(self, name: str, count: int = 1) -> dict[str, Any]:
        await until(lambda: self.robot.names().count(name) >= count or self.task.done())
        return [each for each in self.robot.events if each["event"] == name][count - 1]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tube_offer, "PAUSE", 0.001)
    monkeypatch.setattr(tube_offer, "LONG_PAUSE", 0.001)


@pytest.mark.usefixtures("hasty")
async def test_a_service_is_offered_whenever_the_contact_waits_for_it(
    cm: FakeCM, tubes: Tubes
) -> None:
    async with Keep(tubes) as keep:
        await keep.event("waiting")
        keep.wait_for("ssh")
        keep.wait_for("http")
        await keep.event("open")
        (path,) = cm.channels
        keep.wait_for()
        cm.tube_ends(path, "Terminated", "The contact closed the tube")
        await keep.event("closed")
        await keep.event("waiting", 2)
        keep.wait_for("http", "ssh")
        await keep.event("open", 2)
    assert cm.members().count("Offer") == 2
    assert cm.channels == {}


@pytest.mark.usefixtures("hasty")
async def test_a_way_that_was_lost_is_looked_for_again(cm: FakeCM, tubes: Tubes) -> None:
    tubes.offered = tubes.ends("NetworkError", "No road", opened=False)
    async with Keep(tubes) as keep:
        keep.services = ["http"]
        assert (await keep.event("closed", 3))["error"] == names.TP + "Error.NetworkError"
        tubes.offered = tubes.open
        await keep.event("open")


async def test_an_account_that_logs_out_ends_keeping_between_two_offers(
    cm: FakeCM, tubes: Tubes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tube_offer, "LONG_PAUSE", 1e6)
    tubes.offered = tubes.ends("NetworkError", "No road", opened=False)
    async with Keep(tubes) as keep:
        keep.services = ["http"]
        await keep.event("closed")
        cm.emit(cm.connection, names.CONNECTION, "StatusChanged", "uu", names.DISCONNECTED, 1)
        assert await keep.task == 5


@pytest.mark.usefixtures("hasty")
async def test_who_said_no_is_asked_again_only_when_he_waits_anew(cm: FakeCM, tubes: Tubes) -> None:
    tubes.offered = tubes.ends("Terminated", "The contact cancelled the tube", opened=False)
    async with Keep(tubes) as keep:
        keep.services = ["http"]
        await keep.event("closed")
        tubes.offered = tubes.open
        keep.wait_for("http", "ssh")  # still, and not anew
        assert cm.members().count("Offer") == 1
        keep.wait_for("ssh")
        await keep.event("waiting")
        assert cm.members().count("Offer") == 1
        keep.wait_for("http")
        await keep.event("open")


@pytest.mark.usefixtures("hasty")
async def test_the_next_one_must_be_protected_as_well_as_the_last(cm: FakeCM, tubes: Tubes) -> None:
    async def verified(path: str) -> None:
        cm.verified(path)
        await tubes.open(path)

    tubes.offered = verified
    async with Keep(tubes) as keep:
        keep.services = ["http"]
        await keep.event("open")
        assert names.SECURITY + ".RequireVerified" not in tubes.request
        tubes.offered = tubes.open
        cm.tube_ends(next(iter(cm.channels)), "NetworkError")
        assert await keep.task == 3
        assert tubes.request[names.SECURITY + ".RequireVerified"] is True
        assert keep.robot.names().count("open") == 1
    assert cm.channels == {}


@pytest.mark.usefixtures("hasty")
async def test_tampering_ends_keeping(tubes: Tubes) -> None:
    tubes.offered = tubes.ends("EncryptionError", "tampered", opened=False)
    async with Keep(tubes) as keep:
        keep.services = ["http"]
        assert await keep.task == 4


async def test_what_cannot_be_waited_for_cannot_be_kept(tubes: Tubes) -> None:
    assert await run(tubes, Robot(), "tube", "offer", BOB, "my web", "80", "--keep") == 2
    assert tubes.cm.calls == []
