"""Calls over D-Bus in tests: one side's end of a call, driven as a client would."""

from __future__ import annotations

import asyncio
import math
import struct
import wave
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbus_fast import Variant

from tests.support.pair import Pair
from tests.support.side import CHANNEL, CONNECTION, Side, Signal, plain
from tests.support.waiting import PATIENCE, until

CALL = CHANNEL + ".Type.Call1"
CALL_MEDIA = CHANNEL + ".Interface.CallMedia1"
HOLD = CHANNEL + ".Interface.Hold"
MUTE = "org.freedesktop.Telepathy.Call1.Interface.Mute"
CONTENT = "org.freedesktop.Telepathy.Call1.Content"
STREAM = "org.freedesktop.Telepathy.Call1.Stream"
DTMF = CONTENT + ".Interface.DTMF"
AUDIO_CONTROL = CONTENT + ".Interface.AudioControl"
REQUESTS = CONNECTION + ".Interface.Requests"

PENDING_INITIATOR, INITIALISING, INITIALISED, ACCEPTED, ACTIVE, ENDED = range(1, 7)


@dataclass
class OneCall:
    """A call's channel on one side."""

    side: Side
    path: str
    properties: dict[str, Any]

    async def accept(self) -> None:
        await self.side.cm(self.path, CALL, "Accept")

    async def hangup(self, reason: int = 2, message: str = "") -> None:
        await self.side.cm(self.path, CALL, "Hangup", "uss", reason, "", message)

    async def state(self) -> int:
        return int(await self.side.get(self.path, CALL, "CallState"))

    async def until(self, *states: int) -> tuple[int, int, tuple[int, int, str, str]]:
        """State, flags and reason, once the state is one of these."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    shown = await self.side.get_all(self.path, CALL)
                    if shown["CallState"] in states:
                        return shown["CallState"], shown["CallFlags"], shown["CallStateReason"]
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.side.get_all(self.path, CALL)
            raise AssertionError(f"{self.side.name}: {shown}\n{self.side.log}") from None

    async def property(self, interface: str, name: str) -> Any:
        return await self.side.get(self.path, interface, name)

    async def choose(self, name: str, value: str) -> None:
        """Set a property of CallMedia1."""
        await self.side.cm(
            self.path,
            "org.freedesktop.DBus.Properties",
            "Set",
            "ssv",
            CALL_MEDIA,
            name,
            Variant("s", value),
        )

    async def contents(self) -> list[str]:
        return list(await self.property(CALL, "Contents"))

    async def statistics(self) -> dict[str, dict[str, Any]]:
        found = await self.side.cm(self.path, CALL_MEDIA, "GetStatistics")
        return dict(plain(found))

    async def figures(self, **at_least: float) -> dict[str, Any]:
        """Of the first content, once each of these has been reached (``packets_sent=50``)."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for each in (await self.statistics()).values():
                    if all(
                        each.get(k.replace("_", "-"), -math.inf) >= v for k, v in at_least.items()
                    ):
                        return each
                await asyncio.sleep(0.1)


async def call(
    caller: Side,
    target: str,
    *,
    audio: bool = True,
    video: bool = False,
    demands: Mapping[str, Variant] | None = None,
) -> OneCall:
    """CreateChannel; not accepted yet."""
    request = {
        CHANNEL + ".ChannelType": Variant("s", CALL),
        CHANNEL + ".TargetHandleType": Variant("u", 1),
        CHANNEL + ".TargetID": Variant("s", target),
        **({CALL + ".InitialAudio": Variant("b", True)} if audio else {}),
        **({CALL + ".InitialVideo": Variant("b", True)} if video else {}),
        **(demands or {}),
    }
    path, properties = await caller.cm(
        caller.connection, REQUESTS, "CreateChannel", "a{sv}", request
    )
    return OneCall(caller, path, plain(properties))


async def incoming(callee: Side, *, skip: int = 0) -> OneCall:
    """The call that rings at a side."""
    path, properties = await callee.new_channel(CALL, skip=skip)
    return OneCall(callee, path, properties)


async def talking(pair: Pair) -> tuple[OneCall, OneCall]:
    """A call of Alice to Bob in which both have accepted."""
    ours = await call(pair.alice, pair.server.jid("bob"))
    await ours.accept()
    theirs = await incoming(pair.bob)
    await theirs.accept()
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    return ours, theirs


async def told(one: OneCall) -> Signal:
    """A device or program of this side that was lost."""
    return await one.side.signal(lambda each: each.member == "MediaLost" and each.path == one.path)


async def both_go_on(*both: OneCall) -> None:
    """Each still gets packets, a second of them."""

    async def goes_on(one: OneCall) -> None:
        had = (await one.figures())["packets-received"]
        await one.figures(packets_received=had + 50)
        await one.until(ACTIVE)

    await asyncio.gather(*map(goes_on, both))


async def sends_nothing(one: OneCall, content: str) -> None:
    """Wait until one side sends nothing of a content for a second, and for fifty packets it gets.

    What was with an encoder goes out still, and both take their time where the machine is busy.
    """

    async def sent() -> int:
        return int((await one.statistics())[content]["packets-sent"])

    async with asyncio.timeout(PATIENCE):
        before = None
        while (now := await sent()) != before:
            before = now
            heard = (await one.figures(packets_received=1))["packets-received"]
            await asyncio.gather(
                one.figures(packets_received=heard + 50),
                asyncio.sleep(1),
            )


async def written(path: Path) -> None:
    """Wait until a WAV file is whole: its first words are written last.

    A file is closed beside what goes on: not before another sink is told to be chosen, nor before
    its call has ended.
    """

    def whole() -> bool:
        head = path.read_bytes()[:8] if path.exists() else b""
        return len(head) == 8 and int.from_bytes(head[4:], "little") == path.stat().st_size - 8

    await until(whole)


def loudness(path: Path) -> float:
    """Of a WAV file, root mean square as a share of full scale."""
    samples = _samples(path)
    if not samples:
        return 0.0
    return math.sqrt(sum(s * s for s in samples) / len(samples)) / 32768


def tone_share(path: Path, hertz: float) -> float:
    """How much of the sound in it is a tone: of each 50 ms, on the average.

    What comes late to be played is silence, which says nothing of the rest, and a busy machine may
    make much of it: 50 ms count if half of them are sound, and five of these have to be there.
    """
    with wave.open(str(path)) as file:
        rate = file.getframerate()
    samples, step = _samples(path), rate // 20
    # The first half second is the beginning of things.
    all_ = [samples[at : at + step] for at in range(rate // 2, len(samples) - step + 1, step)]
    parts = [each for each in all_ if each.count(0) <= step // 2]
    return sum(_share(each, rate, hertz) for each in parts) / len(parts) if len(parts) > 4 else 0.0


def _share(samples: array[int], rate: int, hertz: float) -> float:
    coefficient = 2 * math.cos(2 * math.pi * hertz / rate)
    before = last = 0.0
    for sample in samples:
        before, last = last, sample + coefficient * last - before
    power = last * last + before * before - coefficient * last * before
    total = sum(s * s for s in samples)
    return 2 * power / ((len(samples) - samples.count(0)) * total)


def _samples(path: Path) -> array[int]:
    """The first channel."""
    with wave.open(str(path)) as file:
        channels = file.getnchannels()
        assert file.getsampwidth() == 2
        data = file.readframes(file.getnframes())
    samples = array("h", struct.unpack(f"<{len(data) // 2}h", data))
    return samples[::channels]
