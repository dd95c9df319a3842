"""One call from when both are in it to its end: what is said of it, shown of it, done in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import BusError
from telepathy_e2e.cli.call_words import clock, figures, figures_text, meter
from telepathy_e2e.cli.calls import Media, Seen, hang_up, how_it_ended, is_over, state_of
from telepathy_e2e.cli.exits import OK, Exit
from telepathy_e2e.cli.names import CALL, CallState
from telepathy_e2e.cli.output import STYLES, Line, Output
from telepathy_e2e.cli.question import Answers
from telepathy_e2e.cli.together import first
from telepathy_e2e.cli.transfer import Guard, Reporter, watch_questions
from telepathy_e2e.cli.views import ChannelView
from telepathy_e2e.cli.words import METHODS, Protection, printable

# Seconds between two looks at the figures: for meters on a terminal, and elsewhere for events.
METERS: Final = 0.25
FIGURES: Final = 3.0

# Keys that a telephone has.
TONES: Final = frozenset("0123456789*#")
KEYS: Final = "m: mute  h: hold  v: verify  q: hang up"

# Keys that wait for their turn: more are not meant.
MAX_KEYS: Final = 16


class Talk:
    """A call that this program placed or took.

    Args:
        verify: ask who it is as soon as both talk.
        seconds: hang up after talking for so long; None: when somebody hangs up.
        media: told to the daemon when the guard is content (None: told before).
    """

    def __init__(
        self,
        channel: ChannelView,
        output: Output,
        answers: Answers,
        guard: Guard,
        *,
        verify: bool = False,
        seconds: float | None = None,
        media: Media | None = None,
    ) -> None:
        self._channel = channel
        self._output = output
        self._answers = answers
        self._guard = guard
        self._verify = verify
        self._seconds = seconds
        self._media = media
        self._reporter = Reporter(channel, output)
        self._since: float | None = None
        self._active = asyncio.Event()
        # What was said of it.
        self._seen = Seen()
        self._told = 0
        self._line: Line | None = None
        self._figures: list[dict[str, Any]] = []
        self._kinds: dict[str, tuple[str, str]] = {}
        self._keys: asyncio.Queue[str] = asyncio.Queue(MAX_KEYS)

    async def run(self) -> int:
        """See the call through.

        Returns:
            OK: they talked, and somebody hung up.
        Raises:
            Exit: it ended in another way.
        """
        channel = self._channel
        with self._output.line() as line, self._output.keys(self._pressed):
            self._line = line
            await first(
                self._life(),
                watch_questions(channel, self._output, self._answers),
                self._reporter.follow(),
                self._narrate(),
                self._look(),
                self._obey(),
            )
        end = self._ending()
        if end.code != OK:
            raise end
        talked = self._talked
        protection = Protection(channel)
        self._output.say(
            "done",
            f"{end} You talked for {clock(talked)}; {protection.sentence}.",
            style=STYLES[protection.level],
            channel=channel.path,
            contact=channel.target,
            seconds=round(talked, 3),
            hung_up_by="here" if self._reason[0] == self._own else "there",
            **protection.fields(),
        )
        return OK

    # -- its life -----------------------------------------------------------------------------

    async def _life(self) -> None:
        """From here to the end."""
        channel = self._channel
        await channel.wait(lambda: state_of(channel) == CallState.ACTIVE or is_over(channel))
        if is_over(channel):
            self._check_ending()
            return
        self._since = asyncio.get_running_loop().time()
        self._active.set()
        await self._reporter.tell(even_none=True)
        # The daemon keeps the demand; that nobody even speaks otherwise is one more line.
        try:
            self._guard.check(channel)
        except Exit:
            await hang_up(channel)
            raise
        if self._media is not None:
            await self._media.choose(channel)
        if self._verify:
            await channel.call(names.SECURITY, "Verify")
        try:
            async with asyncio.timeout(self._seconds):
                await channel.wait(lambda: is_over(channel))
        except TimeoutError:
            await hang_up(channel)
            await channel.wait(lambda: is_over(channel))
        self._check_ending()

    def _check_ending(self) -> None:
        end = self._ending()
        if end.code != OK:
            raise end

    @property
    def _reason(self) -> tuple[Any, ...]:
        return tuple(self._channel.get(CALL, "CallStateReason") or (0, 0, "", ""))

    @property
    def _own(self) -> object:
        return self._channel.connection.values.get("SelfHandle")

    @property
    def _talked(self) -> float:
        """Seconds."""
        if self._since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._since

    def _ending(self) -> Exit:
        return how_it_ended(self._channel, talked=self._since is not None)

    # -- what happens -------------------------------------------------------------------------

    async def _narrate(self) -> None:
        """Say each change until cancelled."""
        channel = self._channel
        while True:
            await channel.wait(self._is_news)
            now, before, self._seen = Seen.of(channel), self._seen, Seen.of(channel)
            for event, sentence, fields in now.news(before, printable(channel.target)):
                self._say(event, sentence, "", **fields)
            lost, self._told = channel.media_lost[self._told :], len(channel.media_lost)
            for what, why in lost:
                self._say(
                    "media-lost",
                    f"The {printable(what, 20)} is gone: {printable(why)}. The call goes on "
                    "without it.",
                    "yellow",
                    what=what,
                    reason=why,
                )

    def _is_news(self) -> bool:
        return Seen.of(self._channel) != self._seen or len(self._channel.media_lost) > self._told

    def _say(self, event: str, sentence: str, style: str = "", **fields: object) -> None:
        self._output.say(
            event,
            sentence,
            style,
            channel=self._channel.path,
            contact=self._channel.target,
            **fields,
        )

    # -- the line, and the figures ------------------------------------------------------------

    async def _look(self) -> None:
        """Look at the figures again and again, until cancelled."""
        channel = self._channel
        await self._active.wait()
        clock_ = asyncio.get_running_loop().time
        due = clock_() + FIGURES
        live = self._line is not None and self._line.visible
        while True:
            await asyncio.sleep(METERS if live else FIGURES)
            if is_over(channel):
                await asyncio.Event().wait()
            try:
                found = await channel.call(names.CALL_MEDIA, "GetStatistics")
                self._figures = [await self._named(*each) for each in sorted(found.items())]
            except BusError:
                continue  # it is just ending
            if self._line is not None:
                self._line.set(self._text())
            if clock_() >= due or not live:
                due = clock_() + FIGURES
                self._tell_figures(sentence=not live)

    async def _named(self, path: str, statistics: Mapping[str, Any]) -> dict[str, Any]:
        kind, name = await self._kind(path)
        return {**figures(path, kind, statistics), "name": name}

    async def _kind(self, path: str) -> tuple[str, str]:
        """Of a content: audio or video, and its name."""
        if path not in self._kinds:
            connection = self._channel.connection
            shown = await connection.bus.get_all(connection.name, path, names.CALL_CONTENT)
            kind = "audio" if shown.get("Type") == names.AUDIO else "video"
            self._kinds[path] = kind, str(shown.get("Name", ""))
        return self._kinds[path]

    def _tell_figures(self, *, sentence: bool) -> None:
        if not self._figures:
            return
        protection = Protection(self._channel)
        said = "; ".join(f"{each['media']}: {figures_text(each)}" for each in self._figures)
        self._say(
            "statistics",
            f"{clock(self._talked)} {said}; {printable(protection.suite)}." if sentence else "",
            seconds=round(self._talked, 3),
            contents=self._figures,
            cipher_suite=protection.suite,
            protocol=protection.protocol,
            key_exchange=protection.exchange,
        )

    def _text(self) -> str:
        """What stands on the line."""
        channel = self._channel
        seen = Seen.of(channel)
        protection = Protection(channel)
        name = printable(channel.target, 40)
        audio = next((each for each in self._figures if each["media"] == "audio"), {})
        marks = [
            "talking" if seen.state == CallState.ACTIVE else "interrupted",
            *(["on hold"] if seen.held_here else []),
            *([f"{name} holds"] if seen.held_there else []),
            *(["muted"] if seen.muted else []),
        ]
        by = " and ".join(METHODS.get(each, each) for each in protection.methods)
        safety = {
            "verified": f"verified by {by}",
            "encrypted": "encrypted, not verified",
            "none": "NOT PROTECTED",
        }[protection.level]
        question = channel.connection.question_about(channel.path)
        string = question and question.get(names.PEER_VERIFICATION, "ShortAuthenticationString")
        return "\n".join(
            (
                f"{clock(self._talked)}  {', '.join(marks)}   you {meter(audio.get('level_sent'))}"
                f"   {name} {meter(audio.get('level_received'))}",
                safety + (f"   short string  {' '.join(str(string))}" if string else ""),
                *(f"{each['media']}: {figures_text(each)}" for each in self._figures),
                printable(protection.suite),
                KEYS,
            )
        )

    # -- keys ---------------------------------------------------------------------------------

    def _pressed(self, key: str) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._keys.put_nowait(key.lower())

    async def _obey(self) -> None:
        """Do what keys mean, until cancelled."""
        while True:
            key = await self._keys.get()
            if is_over(self._channel):
                continue
            try:
                await self._do(key)
            except BusError as error:
                self._say("refused", f"That is not possible now: {error}", "yellow")

    async def _do(self, key: str) -> None:
        channel, seen = self._channel, Seen.of(self._channel)
        if key == "q":
            await hang_up(channel)
        elif key == "m":
            await channel.call(names.CALL_MUTE, "RequestMuted", "b", not seen.muted)
        elif key == "h":
            await channel.call(names.HOLD, "RequestHold", "b", not seen.held_here)
        elif key == "v":
            await channel.call(names.SECURITY, "Verify")
        elif key in TONES:
            for path, (kind, _) in self._kinds.items():
                if kind == "audio":
                    connection = channel.connection
                    await connection.bus.call(
                        connection.name, path, names.CALL_DTMF, "MultipleTones", "s", key
                    )
                    return
