"""The calls of a connection: made on request, offered by contacts, or announced by messages."""

from __future__ import annotations

import asyncio
import importlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    InvalidArgument,
    InvalidHandle,
    NotAvailable,
    NotCapable,
    Offline,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.jingle.events import CallInitiated
from telepathy_e2e.service import names
from telepathy_e2e.service.call_words import MediaType
from telepathy_e2e.service.capabilities import AUDIO_FEATURE, MESSAGES_FEATURE, takes_calls
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.failures import SecurityFailed
from telepathy_e2e.service.feature import Feature, text_of
from telepathy_e2e.service.peers import is_online
from telepathy_e2e.service.requests import ChannelRequest, demands
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.policy import Demands
from telepathy_e2e.xmpp import call_messages, messages
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xmpp.messages import MESSAGE

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account
    from telepathy_e2e.service.call_channel import Call
    from telepathy_e2e.service.call_dialogue import Dialogue
    from telepathy_e2e.service.call_ways import Placing, Proposed
    from telepathy_e2e.service.sessions import Link

log = logging.getLogger(__name__)

_CALL: Final = names.CALL + "."
VERIFICATION_FEATURE: Final = "urn:x-telepathy-e2e:verification:0"

# Calls that are not over. Each has sockets, codecs and threads; nobody talks in more.
MAX_CALLS: Final = 20
# Of contacts' calls that nobody has taken yet: the desktop rings for each.
MAX_RINGING: Final = 8
# Of one contact, and of all strangers together.
MAX_RINGING_EACH: Final = 2
MAX_RINGING_STRANGERS: Final = 2
# Ended calls whose channels no client has closed.
MAX_ENDED: Final = 64


@dataclass(frozen=True)
class Callee:
    """Whom to call.

    Attributes:
        jid: full JID of the client that gets the offer, where there is no announcement.
        by_messages: whether to announce the call to all devices.
    """

    jid: str
    by_messages: bool


class Calls(Feature):
    """See ``feature.ChannelManager``, whose docstrings hold.

    Attributes:
        proposing: our announced calls that nobody has picked up yet, by id.
        proposed: contacts' announced calls, by bare JID and id.
    """

    needs_contact: ClassVar[bool] = True

    def __init__(self, account: Account) -> None:
        self._account = account
        self._calls: set[Call] = set()
        self._ended: dict[str, Channel] = {}
        self._closing = TaskOwner("media")
        self.proposing: dict[str, Placing] = {}
        self.proposed: dict[tuple[str, str], Proposed] = {}

    # -- requested --------------------------------------------------------------------------

    def manages(self, request: ChannelRequest) -> bool:
        return request.channel_type == names.CALL

    async def create(self, request: ChannelRequest) -> Channel:
        properties = request.properties
        wanted = _wanted(request)
        target = self._account.handles.inspect(request.handle)
        if target == self._account.self_id:
            raise InvalidArgument("A call to oneself rings nowhere")
        if len(self._calls) >= MAX_CALLS:
            raise NotAvailable(f"There are {MAX_CALLS} calls already")
        self._check_reachable(target)
        call = self._new(request.handle, requested=True, wanted=wanted, asked=demands(properties))
        from telepathy_e2e.service.call_ways import Placing

        call.attach_way(Placing(self, call, wanted))
        return call

    async def ensure(self, request: ChannelRequest) -> tuple[bool, Channel]:
        """A call with this contact that goes on, unless its demands are weaker."""
        asked = demands(request.properties)
        for call in self._calls:
            own = call.security.demands
            fits = own.encrypted >= asked.encrypted and own.verified >= asked.verified
            if call.target_handle == request.handle and fits:
                return False, call
        return True, await self.create(request)

    def _check_reachable(self, target: str) -> None:
        resources = self._account.client.resources(target)
        if not resources:
            raise Offline("The contact is not online, or does not show it to you")
        if not any(takes_calls(each) or each.features is None for each in resources):
            raise NotCapable("No program of the contact takes calls")

    async def find_callee(self, target: str) -> Callee:
        """Whom to call.

        Raises:
            Offline, NotCapable: nobody there.
            Disconnected: the stream is gone.
        """
        client = self._account.client
        able = []
        for resource in client.resources(target):
            features = resource.features
            if features is None:
                features = await client.features_of(resource.jid)
            if MESSAGES_FEATURE in features:
                return Callee("", by_messages=True)
            if AUDIO_FEATURE in features:
                able.append(resource)
        if not able:
            self._check_reachable(target)
            raise NotCapable("No program of the contact takes calls")
        return Callee(max(able, key=lambda each: each.priority).jid, by_messages=False)

    def open(self, call: Call, peer: str, sid: str) -> tuple[Link, Dialogue]:
        """A session of ours with one client of the contact.

        Args:
            peer: full JID.
            sid: of the session; fresh, or that of its announcement.
        """
        link = self._account.hub.open_call(peer, sid)
        link.seen_online = True
        return link, self._dialogue(call, link)

    def _dialogue(self, call: Call, link: Link) -> Dialogue:
        from telepathy_e2e.service.call_dialogue import Dialogue, Prepared
        from telepathy_e2e.service.call_servers import find_servers

        async def prepare() -> Prepared:
            features = await self._account.client.features_of(link.peer)
            servers = await find_servers(self._account)
            # A second of work, which must not hold up the account.
            await asyncio.to_thread(importlib.import_module, "telepathy_e2e.media.engine")
            return Prepared(VERIFICATION_FEATURE in features, servers)

        return Dialogue(
            link, call.security, call, prepare=prepare, choice=call.choice, tasks=call.tasks
        )

    def _new(
        self,
        handle: int,
        *,
        requested: bool,
        wanted: dict[str, MediaType],
        asked: Demands | None = None,
    ) -> Call:
        from telepathy_e2e.service.call_channel import Call

        call = Call(
            self._account,
            self._account.next_path("Call"),
            target_handle=handle,
            requested=requested,
            demands=asked or Demands(encrypted=False, verified=False),
            initial=wanted,
        )
        self._calls.add(call)
        return call

    # -- offered ----------------------------------------------------------------------------

    def offered(self, link: Link, offer: CallInitiated) -> None:
        """A peer initiated a session for a call.

        Raises:
            PeerError: malformed.
        """
        announced = self.proposed.get((bare(link.peer), link.sid))
        try:
            if announced is not None:
                self._announced(announced, link, offer)
            elif self._account.takes_calls:
                self._at_once(link, offer)
            else:
                link.terminate("unsupported-applications")
        except SecurityFailed as failure:
            log.warning("a call without a certificate was refused")
            link.terminate(failure.condition)
        except NotAvailable as error:
            log.info("a call was refused: %s", error)
            link.terminate("busy")

    def _announced(self, announced: Proposed, link: Link, offer: CallInitiated) -> None:
        if not announced.expects:
            raise NotAvailable("Nobody has taken this call")
        dialogue = self._dialogue(announced.call, link)
        # Who has taken it must not wait for another session: there is none to come.
        try:
            dialogue.offered(offer.contents, offer.payload)
        except SecurityFailed as failure:
            announced.call.dialogue_failed(failure.condition, failure)
            raise
        except PeerError as error:
            announced.call.dialogue_failed("failed-application", error)
            raise
        if not dialogue.legs:
            link.terminate("unsupported-applications")
            nothing = PeerError("nothing that was offered can be played here")
            announced.call.dialogue_failed("unsupported-applications", nothing)
            return
        announced.call.offered(dialogue.legs)
        announced.session(link, dialogue)

    def _at_once(self, link: Link, offer: CallInitiated) -> None:
        from telepathy_e2e.service.call_ways import Offered

        peer = bare(link.peer)
        crossed = next((each for each in self._calls if each.waits_for(link.peer)), None)
        if crossed is not None:
            # Theirs has the lower sid, or it would have been refused (XEP-0166 section 7.2.16).
            dialogue = self._dialogue(crossed, link)
            dialogue.offered(offer.contents, offer.payload)
            crossed.adopt(Offered(crossed, link))
            crossed.offered(dialogue.legs)
            crossed.attach(link, dialogue)
            return
        self._check_room(peer)
        handle = self._account.handles.of_jid(peer)
        call = self._new(handle, requested=False, wanted={})
        try:
            dialogue = self._dialogue(call, link)
            dialogue.offered(offer.contents, offer.payload)
            if not dialogue.legs:
                link.terminate("unsupported-applications")
                self.forget(call)
                return
            call.begins_with(dialogue.legs)
        except (PeerError, SecurityFailed):
            self.forget(call)
            raise
        call.attach(link, dialogue)
        call.attach_way(Offered(call, link))
        link.seen_online = is_online(self._account.client, link.peer)
        self._account.announce(call)

    def _check_room(self, peer: str) -> None:
        """Raises: NotAvailable: too many calls ring."""
        ringing = [each for each in self._calls if not each.requested and not each.is_answered]
        strangers = [each for each in ringing if not self._is_known(each.target_id)]
        if (
            len(self._calls) >= MAX_CALLS
            or len(ringing) >= MAX_RINGING
            or sum(each.target_id == peer for each in ringing) >= MAX_RINGING_EACH
            or (not self._is_known(peer) and len(strangers) >= MAX_RINGING_STRANGERS)
        ):
            raise NotAvailable("Too many calls ring already")

    def _is_known(self, peer: str) -> bool:
        return peer == self._account.self_id or peer in self._account.client.contacts()

    # -- announced (XEP-0353) -----------------------------------------------------------------

    def receive_message(self, stanza: Element) -> bool:
        copied = messages.copied(stanza, self._account.self_id)
        message = stanza if copied is None else copied.element
        if message.get("type") in ("error", "groupchat"):
            return False
        said = call_messages.parse(message)
        if said is None:
            return False
        if messages.is_delayed(message):
            return True  # it rang while nobody was there
        sender = message.get("from", "")
        if copied is not None and copied.direction == "sent":
            self._said_elsewhere(bare(message.get("to", "")), said)
        elif sender:
            self._heard(sender, said)
        return True

    def _heard(self, sender: str, said: call_messages.CallMessage) -> None:
        if bare(sender) == self._account.self_id:
            return
        if isinstance(said, call_messages.Propose):
            self._proposed(sender, said)
        elif isinstance(said, call_messages.Retract | call_messages.Finish):
            if (announced := self.proposed.get((bare(sender), said.id))) is not None:
                announced.retracted(sender)
        elif (ours := self.proposing.get(said.id)) is not None:
            ours.heard(sender, said)

    def _said_elsewhere(self, peer: str, said: call_messages.CallMessage) -> None:
        announced = self.proposed.get((peer, said.id))
        if announced is not None and isinstance(said, call_messages.Proceed | call_messages.Reject):
            announced.elsewhere(rejected=isinstance(said, call_messages.Reject))

    def _proposed(self, sender: str, said: call_messages.Propose) -> None:
        from telepathy_e2e.service.call_ways import Proposed

        peer = bare(sender)
        kinds = {each.upper() for each in said.descriptions} & MediaType.__members__.keys()
        if not self._account.takes_calls or (peer, said.id) in self.proposed or not kinds:
            return
        if (ours := self._crossed(peer)) is not None:
            self._tie(ours, sender, said)
            return
        try:
            self._check_room(peer)
            handle = self._account.handles.of_jid(peer)
        except (NotAvailable, InvalidHandle) as error:
            log.info("a call is refused: %s", error)
            self.tell(sender, call_messages.Reject(said.id, call_messages.Reason("busy")))
            return
        wanted = {kind.lower(): MediaType[kind] for kind in sorted(kinds)}
        call = self._new(handle, requested=False, wanted=wanted)
        announced = self.proposed[peer, said.id] = Proposed(self, call, sender, said.id)
        call.attach_way(announced)
        self._account.announce(call)

    def _crossed(self, peer: str) -> Placing | None:
        """Our own announced call to somebody who has not answered it yet."""
        return next((each for each in self.proposing.values() if each.target == peer), None)

    def rings_from(self, peer: str) -> Proposed | None:
        """Somebody's announced call that nobody has taken yet."""
        return next(
            (each for (jid, _), each in self.proposed.items() if jid == peer and each.rings), None
        )

    def _tie(self, ours: Placing, sender: str, theirs: call_messages.Propose) -> None:
        """Both announced a call: the one with the lower id counts (XEP-0353, "Tie Breaking").

        "i;octet" (RFC 4790 section 9.3): octets of UTF-8.
        """
        from telepathy_e2e.service.call_ways import Proposed

        expired = call_messages.Reason("expired")
        if ours.id.encode() <= theirs.id.encode():
            self.tell(sender, call_messages.Reject(theirs.id, expired, tie_break=True))
            return
        call = ours.give_in()
        self.tell(bare(sender), call_messages.Retract(ours.id, expired, tie_break=True))
        announced = self.proposed[bare(sender), theirs.id] = Proposed(self, call, sender, theirs.id)
        call.adopt(announced)

    def tell(self, to: str, said: call_messages.CallMessage) -> None:
        """Send a message about a call; that it cannot be sent is seen by what does not follow."""
        stanza = Element(MESSAGE, {"to": to, "type": "chat", "id": f"call-{said.id}"})
        stanza.extend(call_messages.build(said))
        try:
            self._account.client.send(stanza)
        except TelepathyError as error:
            log.info("a message about a call was not sent: %s", error)

    def finish(self, peer: str, id_: str) -> None:
        """An announced call was talked in and is over (XEP-0353): all devices shall know."""
        self.tell(peer, call_messages.Finish(id_, call_messages.Reason("success")))

    # -- the end ----------------------------------------------------------------------------

    def ended(self, call: Call, dialogue: Dialogue | None) -> None:
        """A call is over; its channel stays until somebody closes it."""
        self._calls.discard(call)
        self.release(dialogue)
        if not call.closed:
            self._ended[call.object_path] = call
            if len(self._ended) > MAX_ENDED:
                next(iter(self._ended.values())).close()

    def release(self, dialogue: Dialogue | None) -> None:
        """Let go of the media of a session that is over."""
        if dialogue is not None:
            self._closing.start("media", dialogue.close())

    async def closed(self) -> None:
        """Wait until the media of all calls that are over have let go of their devices."""
        await self._closing.wait()

    def forget(self, call: Call) -> None:
        """It was never shown."""
        self._calls.discard(call)

    def channel_closed(self, channel: Channel) -> None:
        """A channel of any type left the bus."""
        self._ended.pop(channel.object_path, None)

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        self._ended.clear()


def _wanted(request: ChannelRequest) -> dict[str, MediaType]:
    """The contents to begin with, by name.

    Raises:
        InvalidArgument: none, or two of one name.
    """
    properties = request.properties
    wanted: dict[str, MediaType] = {}
    for kind in MediaType:
        title = kind.name.capitalize()
        if properties.get(f"{_CALL}Initial{title}") is True:
            name = text_of(properties, f"{_CALL}Initial{title}Name") or kind.word
            if name in wanted or len(name) > 256:
                raise InvalidArgument("Names of contents differ, and are not long")
            wanted[name] = kind
    if not wanted:
        raise InvalidArgument("A call begins with InitialAudio, InitialVideo or both")
    return wanted
