"""``tpe2e forward``: a port here is a service of a contact, for as long as somebody offers it."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Bus, BusError
from telepathy_e2e.cli.call import check_jid
from telepathy_e2e.cli.exits import UNPROTECTED, UNVERIFIED, Exit
from telepathy_e2e.cli.offers import Offers, announced, follow, handled, taken_elsewhere
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.places import listening_at
from telepathy_e2e.cli.question import Answers
from telepathy_e2e.cli.relay import Relay
from telepathy_e2e.cli.together import first, plain
from telepathy_e2e.cli.transfer import Guard
from telepathy_e2e.cli.tube import tell_offer, waiting
from telepathy_e2e.cli.tubes import Tube, serve
from telepathy_e2e.cli.views import ChannelView
from telepathy_e2e.cli.words import Protection, printable

# Tubes at the same time: one, and those whose other side is gone without a word.
MAX_PARALLEL: Final = 8

# From the least to the most.
LEVELS: Final = ("none", "encrypted", "verified")


async def run(arguments: argparse.Namespace, output: Output, answers: Answers) -> int:
    """The command; returns the exit code."""
    guard = Guard(arguments.require)
    if arguments.verify or guard.verified:
        answers.check(output, "--verify" if arguments.verify else "--require verified")
    check_jid(arguments.jid)
    place = await listening_at(arguments.port, other_machines=arguments.other_machines)
    relay = Relay(place)
    try:
        bus = await Bus.connect()
        try:
            await _Forward(arguments, guard, output, answers, relay).run(bus)
        finally:
            await bus.close()
    finally:
        relay.close()
    raise AssertionError("unreachable")  # pragma: no cover - it ends by an exception only


class _Forward:
    def __init__(
        self,
        arguments: argparse.Namespace,
        guard: Guard,
        output: Output,
        answers: Answers,
        relay: Relay,
    ) -> None:
        self._arguments = arguments
        self._guard = guard
        self._output = output
        self._answers = answers
        self._relay = relay
        # The best protection that a tube of this run had, and those that are open: people may
        # compare at any time.
        self._best = LEVELS[0]
        self._open: list[ChannelView] = []
        self._places = asyncio.Semaphore(MAX_PARALLEL)

    async def run(self, bus: Bus) -> None:
        """Until it is interrupted, or somebody is not who he should be."""
        arguments = self._arguments
        following = await follow(bus, arguments.account)
        will_answer = arguments.verify or self._guard.verified or self._answers.given
        verification = [names.PEER_VERIFICATION] if will_answer else []
        wanted = handled(names.STREAM_TUBE, arguments.service)
        offers = Offers(following, names.STREAM_TUBE, arguments.jid, arguments.service)
        key = (arguments.jid, arguments.service)
        async with announced("forward", key, following, wanted, *verification):
            waiting(self._output, following, arguments.jid, arguments.service, self._relay)
            await first(self._relay.run(), self._take(offers))

    async def _take(self, offers: Offers) -> None:
        """All that is offered. What comes later is in the place of what was before, which may be
        dead without knowing it.
        """
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._places.acquire()
                    channel = await offers.next()
                    group.create_task(self._one(channel))
        except BaseExceptionGroup as failed:
            raise plain(failed) from None

    async def _one(self, channel: ChannelView) -> None:
        """One offer, from here to the end of its tube.

        Raises:
            Exit: what must not simply be followed by the next offer.
        """
        tube = Tube(channel, self._output, self._answers, self._guard)
        tell_offer(tube)
        mine = True
        try:
            await tube.run(self._carry(tube))
            self._over(tube, None)
        except Exit as error:
            if isinstance(error, BusError) and taken_elsewhere(channel, error):
                mine = False
                tube.say("withdrawn", "Another program took it.")
                return
            # Whoever is in between may offer again and again, until somebody says yes.
            if channel.lost or error.code in (UNPROTECTED, UNVERIFIED):
                raise
            self._over(tube, error)
        finally:
            if mine:
                await asyncio.shield(channel.close())
            self._places.release()

    async def _carry(self, tube: Tube) -> None:
        relay, verified = self._relay, self._so_far() == "verified"
        address = await tube.accept(relay.upstream, verify=self._arguments.verify or verified)
        await tube.opened()
        level, best = Protection(tube.channel).level, self._so_far()
        # A server that cannot break into a tube can end it, and offer one of its own.
        if LEVELS.index(level) < LEVELS.index(best):
            raise Exit(
                UNPROTECTED,
                f"This tube is less protected ({level}) than one before it ({best}): run "
                "'tpe2e forward' again if that is right.",
            )
        self._open.append(tube.channel)
        try:
            await serve(tube, relay, address)
        finally:
            self._so_far()
            self._open.remove(tube.channel)

    def _so_far(self) -> str:
        """The best protection until now."""
        levels = (Protection(each).level for each in self._open)
        self._best = max((self._best, *levels), key=LEVELS.index)
        return self._best

    def _over(self, tube: Tube, error: Exit | None) -> None:
        why = str(error) if error is not None else "The tube was closed."
        tube.say(
            "closed",
            f"{why.rstrip('.')}; waiting for the next offer of {printable(tube.service)} …",
            "" if error is None else "yellow",
            reason=why,
            error="" if error is None else error.error,
            bytes_sent=self._relay.sent,
            bytes_received=self._relay.received,
        )
