"""One PeerVerification1 channel, from when it appears until it is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import BusError
from telepathy_e2e.cli.exits import Exit
from telepathy_e2e.cli.words import fingerprint_lines, printable
from telepathy_e2e.handler.memory import Memory
from telepathy_e2e.handler.people import CRITICAL, LOW, NORMAL, People
from telepathy_e2e.handler.pins import (
    NO_IDENTITY,
    Action,
    Alarm,
    Answer,
    Question,
    is_fingerprint,
)
from telepathy_e2e.handler.vouched import vouchers
from telepathy_e2e.handler.wire import HandlerBus

log = logging.getLogger(__name__)

PV: Final = names.PEER_VERIFICATION
PERMISSION_DENIED: Final = names.TP + "Error.PermissionDenied"

Start = Callable[[str, Coroutine[Any, Any, None]], object]


def read_question(properties: Mapping[str, Any], wall: datetime) -> Question:
    """What NewChannels says of a PeerVerification1 channel, as the question that it is.

    Args:
        wall: now, aware; certificates are judged by it.
    """
    reason = str(properties.get(f"{PV}.Reason", ""))
    fingerprints = properties.get(f"{PV}.PeerFingerprints") or {}
    fingerprint = str(fingerprints.get("sha-256", ""))
    contact = str(properties.get(names.CHANNEL + ".TargetID", ""))
    known = is_fingerprint(fingerprint)
    vouched_by: Collection[str] = ()
    if known:
        attestations = properties.get(f"{PV}.Attestations") or ()
        vouched_by = vouchers(attestations, contact=contact, fingerprint=fingerprint, wall=wall)
    return Question(
        account=str(properties.get(names.CHANNEL + ".InitiatorID", "")),
        contact=contact,
        reason=reason,
        fingerprint=fingerprint if known else None,
        vouched_by=vouched_by,
    )


class Asked:
    """One question.

    Args:
        connection: the bus name of the connection.
        path: of the channel.
        properties: its immutable ones.
        start: runs a coroutine as a task.
    """

    def __init__(
        self,
        bus: HandlerBus,
        memory: Memory,
        people: People,
        start: Start,
        *,
        connection: str,
        path: str,
        properties: Mapping[str, Any],
    ) -> None:
        self._bus = bus
        self._memory = memory
        self._people = people
        self._start = start
        self._connection = connection
        self.path = path
        self.payload = str(properties.get(f"{PV}.PayloadChannel", ""))
        self._certificate = str(properties.get(f"{PV}.PeerCertificate", "/"))
        self._methods = list(properties.get(f"{PV}.Methods") or ())
        self.question = read_question(properties, datetime.now(UTC))
        self._alarm: Alarm | None = None
        self._comparing = False
        self._over = False
        # What happens is put on record in the order in which it happened.
        self._turn = asyncio.Lock()

    # -- answering ----------------------------------------------------------------------------

    async def answer(self, before: str = "") -> Action:
        """Answer from memory, or ask people; ``before`` tells them what has just happened.

        Returns:
            What memory said.
        """
        async with self._turn:
            given = await self._decide()
            done = await self._give(given)
        if given.notice and done:
            await self._people.show(
                f"device {self.question.account} {self.question.contact}",
                f"{self._name} uses a device that was not seen before",
                "Nobody has verified it. 'tpe2e trust list' shows what is known.",
                urgency=LOW,
            )
        if not done:
            await self._ask(before)
            return Action.ASK
        return given.action

    async def follow(self, state: str, started: str = "", text: str = "") -> None:
        """It was there before we came.

        Args:
            state, started, text: State, StartedMethod and ShortAuthenticationString as they are.
        """
        if state == "pending":
            await self.answer()
        elif state == "comparing" and started and not text:
            # The other side waits for an answer, and nobody here may know.
            wish = self._wish(started)
            if await self.answer(wish) is Action.PROCEED:
                await self._ask(wish)

    async def _decide(self) -> Answer:
        answer = self._memory.decide(self.question)
        if answer.action is not Action.ACCEPT and await self._only_session_key():
            self.question = replace(self.question, fingerprint=NO_IDENTITY)
            answer = self._memory.decide(self.question)
        answer = await self._memory.prepare(self.question, answer)
        self._alarm = answer.alarm
        if answer.alarm is not None:
            log.warning("alarm: %s (%s)", answer.alarm, self.question.contact)
            who = self.question
            shown = self._people.alarm(answer.alarm, who.account, who.contact)
            # Showing it may start a program; the answer does not wait for that.
            self._start("alarm", shown)
        return answer

    async def _only_session_key(self) -> bool:
        """Whether the peer shows a key for this session alone: nothing that could be pinned."""
        if self.question.fingerprint is None or self._certificate == "/":
            return False
        try:
            shown = await self._bus.get_all(
                self._connection, self._certificate, names.TLS_CERTIFICATE
            )
        except BusError:
            return False  # the question is over
        return len(shown.get("CertificateChainData", ())) < 2

    async def _give(self, answer: Answer) -> bool:
        """Whether that settles it for now."""
        match answer.action:
            case Action.ACCEPT:
                return await self._call("Accept", "s", answer.method)
            case Action.PROCEED:
                return await self._call("ProceedUnverified")
            case Action.REJECT:
                return await self._call(
                    "Reject", "s", "There was a key before, and now there is no encryption"
                )
        return False

    async def _call(self, member: str, signature: str = "", *body: object) -> bool:
        """Call the channel; False if a person has to decide this one."""
        try:
            await self._bus.call(self._connection, self.path, PV, member, signature, *body)
        except Exit as error:
            if error.error == PERMISSION_DENIED:
                return False
            # Somebody else was faster, or the channel is gone: one answer counts.
            log.info("%s on %s: %s", member, self.path, error)
        return True

    # -- people -------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return printable(self.question.contact, 100)

    async def _ask(self, before: str) -> None:
        """Ask; ``before`` says what has just happened."""
        if self._over:
            return
        in_clear = self.question.reason == "no-encryption"
        actions: dict[str, tuple[str, Callable[[], None]]] = {}
        if "sas" in self._methods:
            actions["compare"] = ("Compare a short string", self._do("StartSAS"))
        if self._alarm is None and self.question.reason != "policy":
            label = "Go on in the clear" if in_clear else "Go on unverified"
            actions["accept"] = (label, self._do("ProceedUnverified"))
        actions["reject"] = ("Reject", self._do("Reject", "s", "The user said no"))
        if in_clear:
            text = "Every server on the way can read and change what is sent."
        else:
            shown = " · ".join(fingerprint_lines(self.question.fingerprint or ""))
            text = f"Their key: {shown}"
        await self._people.show(
            self.path,
            f"Is this really {self._name}?",
            f"{before}{text}\nOr in a terminal: tpe2e verify {self.payload}",
            urgency=NORMAL if self._alarm is None else CRITICAL,
            actions=actions,
        )

    async def _show_string(self, text: str) -> None:
        await self._people.show(
            self.path,
            f"{' '.join(text)}",
            f"Ask {self._name}, in a voice that you know: is this the string there?",
            urgency=CRITICAL,
            actions={
                "accept": ("It is the same", self._do("ConfirmSAS", "b", True)),
                "reject": ("It is another one", self._do("ConfirmSAS", "b", False)),
            },
        )

    def _do(self, member: str, signature: str = "", *body: object) -> Callable[[], None]:
        def chosen() -> None:
            self._comparing = self._comparing or member == "StartSAS"
            self._start(member, self._chosen(member, signature, *body))

        return chosen

    async def _chosen(self, member: str, signature: str, *body: object) -> None:
        if not await self._call(member, signature, *body):
            await self._ask("That is not allowed for this channel. ")

    # -- what the connection manager says -----------------------------------------------------

    def peer_started(self, method: str) -> None:
        """The other side wants to compare."""
        if not self._comparing:
            self._start("ask", self._ask(self._wish(method)))

    def _wish(self, method: str) -> str:
        how = "compare short strings" if method == "sas" else "compare a password"
        return f"{self._name} wants to {how}. "

    def string_ready(self, text: str) -> None:
        """There is a string; whoever began elsewhere sees it there."""
        if text and self._comparing:
            self._start("string", self._show_string(text))

    def ceremony_failed(self) -> None:
        """A ceremony came to no result."""
        if self._comparing:
            self._comparing = False
            self._start("ask", self._ask("The comparison came to no result. "))

    async def finished(self, state: str, method: str) -> None:
        """Somebody answered."""
        async with self._turn:
            await self._memory.finished(self.question, state, method)
        await self._people.withdraw(self.path)

    async def closed(self) -> None:
        """The channel is gone."""
        self._over = True
        await self._people.withdraw(self.path)
