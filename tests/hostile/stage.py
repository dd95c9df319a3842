"""Alice and Bob with their real daemons, on a server that may be hostile."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dbus_fast import Variant

from tests.hostile.server import Attack, HostileServer
from tests.support.pair import Pair
from tests.support.side import (
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    TP,
    VERIFICATION,
    DBusFailure,
    Side,
)
from tests.support.waiting import PATIENCE

ERROR = TP + "Error."
ENCRYPTION_ERROR = ERROR + "EncryptionError"
ENCRYPTION_NOT_AVAILABLE = ERROR + "EncryptionNotAvailable"
NETWORK_ERROR = ERROR + "NetworkError"

OPEN, COMPLETED, CANCELLED = 3, 4, 5
"""File_Transfer_State."""
LOCAL_STOPPED, REMOTE_STOPPED, LOCAL_ERROR, REMOTE_ERROR = 2, 3, 4, 5
"""File_Transfer_State_Change_Reason."""

# Seconds: what the wire format gives a hello, and what must come then.
LONGEST = 30.0 + PATIENCE

BOTH_HANDLE_QUESTIONS: dict[str, Any] = {
    "alice_handles": (FILE_TRANSFER, VERIFICATION),
    "bob_handles": (FILE_TRANSFER, VERIFICATION),
}
NOTHING: Mapping[str, Variant] = {}
DEMAND_ENCRYPTED = {E2E + ".RequireEncrypted": Variant("b", True)}
DEMAND_VERIFIED = {E2E + ".RequireVerified": Variant("b", True)}


@dataclass(frozen=True)
class End:
    """How one side's channel ended."""

    state: int
    reason: int
    error: str
    message: str
    opened: bool
    """Whether its socket ever was for payload."""
    transferred: int
    encrypted: bool
    verified: bool


@dataclass(frozen=True)
class Outcome:
    """How a transfer ended, and what the program that receives had got by then."""

    alice: End
    bob: End
    got: bytes

    @property
    def ends(self) -> tuple[End, End]:
        return self.alice, self.bob

    @property
    def told(self) -> str:
        """For a test that fails."""
        return f"{len(self.got)} bytes\nalice {self.alice}\nbob   {self.bob}"


class Attempt:
    """One transfer from Alice to Bob under way; both have said yes."""

    def __init__(self, pair: Pair, mine: str, theirs: str, data: bytes) -> None:
        self.pair = pair
        self.mine = mine
        self.theirs = theirs
        self._receiving = asyncio.create_task(self._receive())
        self._sending = asyncio.create_task(self._send(data))

    async def ended(self) -> Outcome:
        """Wait for the end, whichever it is, on both sides."""
        alice = await self._end(self.pair.alice, self.mine)
        bob = await self._end(self.pair.bob, self.theirs)
        async with asyncio.timeout(LONGEST):
            await self._sending
            return Outcome(alice, bob, await self._receiving)

    async def question(self, side: Side) -> tuple[str, dict[str, Any]]:
        """The PeerVerification channel about this transfer: path and immutable properties."""
        payload = self.mine if side is self.pair.alice else self.theirs
        number = 0
        while True:
            path, shown = await side.new_channel(VERIFICATION, skip=number)
            if shown[VERIFICATION + ".PayloadChannel"] == payload:
                return path, shown
            number += 1

    async def questions(self) -> tuple[str, str]:
        """Alice's and Bob's."""
        hers, _ = await self.question(self.pair.alice)
        his, _ = await self.question(self.pair.bob)
        return hers, his

    async def _end(self, side: Side, path: str) -> End:
        state, reason = await side.state(path, COMPLETED, CANCELLED, timeout=LONGEST)
        security = await side.get_all(path, SECURABLE)
        opened = any(
            s.path == path and s.member == "FileTransferStateChanged" and s.body[0] == OPEN
            for s in side.signals
        )
        return End(
            state,
            reason,
            await side.get(path, E2E, "Error"),
            await side.get(path, E2E, "ErrorMessage"),
            opened,
            await side.get(path, FILE_TRANSFER, "TransferredBytes"),
            security["Encrypted"],
            security["Verified"],
        )

    async def _send(self, data: bytes) -> None:
        """All that it will take, however it ends."""
        side = self.pair.alice
        try:
            address = await side.cm(
                self.mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0)
            )
            reader, writer = await asyncio.open_unix_connection(bytes(address).decode())
        except (DBusFailure, OSError):
            return  # it was over before it began
        try:
            await side.state(self.mine, OPEN, CANCELLED, timeout=LONGEST)
            writer.write(data)
            await writer.drain()
            writer.write_eof()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    async def _receive(self) -> bytes:
        """All that comes, however it ends."""
        got = bytearray()
        try:
            address = await self.pair.bob.cm(
                self.theirs, FILE_TRANSFER, "AcceptFile", "uuvt", 0, 0, Variant("u", 0), 0
            )
            reader, writer = await asyncio.open_unix_connection(bytes(address).decode())
        except (DBusFailure, OSError):
            return b""
        try:
            while data := await reader.read(64 * 1024):
                got += data
        except ConnectionError:
            pass
        finally:
            writer.close()
        return bytes(got)


class Stage:
    """Server, Alice and Bob; ``await Stage.start()`` and ``await stop()``."""

    def __init__(self, server: HostileServer, pair: Pair) -> None:
        self.server = server
        self.pair = pair
        self.alice = pair.alice
        self.bob = pair.bob

    @classmethod
    async def start(
        cls,
        attack: Attack | None = None,
        *,
        kinds: Collection[str] = ("iq",),
        modules: Collection[str] = (),
        **options: Any,
    ) -> Stage:
        """Start all.

        Args:
            attack, kinds: see ``HostileServer.start``; it is there before anybody logs in.
            modules: further ones of the server.
            options: see ``Pair.start``.
        """
        server = await HostileServer.start(attack, kinds=kinds, modules=modules)
        try:
            pair = await Pair.start(server.prosody, **options)
        except BaseException:
            await server.stop()
            raise
        return cls(server, pair)

    async def stop(self) -> None:
        """End all, and raise what went wrong inside attacks."""
        try:
            await self.pair.stop()
        finally:
            await self.server.stop()

    async def begin(
        self,
        data: bytes,
        demands: Mapping[str, Variant] = NOTHING,
        *,
        size: int | None = None,
        name: str = "file.bin",
    ) -> Attempt:
        """Alice offers, Bob accepts; ``demands`` go into the request."""
        announced = len(data) if size is None else size
        mine, theirs = await self.pair.offer_sized(announced, name, demands)
        return Attempt(self.pair, mine, theirs, data)

    async def transfer(
        self, data: bytes, demands: Mapping[str, Variant] = NOTHING, **more: Any
    ) -> Outcome:
        """From the offer to the end, where nobody is asked anything; see ``begin``."""
        return await (await self.begin(data, demands, **more)).ended()


def assert_completed(outcome: Outcome, data: bytes, *, encrypted: bool) -> None:
    """It arrived; and the channels say what they know of it, not more."""
    for end in outcome.ends:
        assert (end.state, end.reason, end.error) == (COMPLETED, 0, ""), outcome.told
        assert (end.encrypted, end.verified) == (encrypted, False), outcome.told
    assert outcome.got == data


def assert_found_out(outcome: Outcome, error: str = ENCRYPTION_ERROR) -> None:
    """Both sides ended it and say why, and not one byte of payload went either way."""
    for end in outcome.ends:
        assert (end.state, end.reason, end.error) == (CANCELLED, REMOTE_ERROR, error), outcome.told
        assert not end.verified
    assert_nothing_delivered(outcome)


def assert_nothing_delivered(outcome: Outcome) -> None:
    """The receiving program got nothing at all.

    It may have been told to expect something, where only the sender had a reason to stop.
    """
    assert outcome.got == b"", outcome.told
    assert outcome.bob.transferred == 0, outcome.told
    assert outcome.bob.state == CANCELLED, outcome.told
