"""The contents of one call, as its channel shows them: which there are, and how they are called.

``call_content`` is one of them, ``call_flow.Leg`` the same as the session has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from telepathy_e2e.jingle.call_negotiation import may_receive, may_send
from telepathy_e2e.role import Role
from telepathy_e2e.service.call_content import ADDED, INITIAL, CallContent, Owner
from telepathy_e2e.service.call_events import ContentAdded, ContentRemoved, MuteStateChanged
from telepathy_e2e.service.call_words import MediaType, Mute, Reason, StateReason
from telepathy_e2e.service.events import ChannelEvent, Emitter, ObjectAdded, ObjectRemoved

if TYPE_CHECKING:
    from telepathy_e2e.service.call_legs import Leg

Key = tuple[str, str]

# Of one call: the contact can add them, too.
MAX_CONTENTS = 8


class Contents:
    """See the module.

    Args:
        owner: of each of them.
        path: the call's object path, which theirs are below.
        events: of the call: told of contents that come and go.

    Attributes:
        mute: of the call as a whole (Mute.LocalMuteState).
    """

    def __init__(self, owner: Owner, path: str, events: Emitter[ChannelEvent]) -> None:
        self._owner = owner
        self._path = path
        self._events = events
        self._of: dict[Key, CallContent] = {}
        self._made = 0
        self.mute = Mute.UNMUTED

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[CallContent]:
        """In the order in which they came; it may be changed meanwhile."""
        return iter(list(self._of.values()))

    def get(self, key: Key) -> CallContent | None:
        """By (creator, name) of the Jingle content."""
        return self._of.get(key)

    @property
    def full(self) -> bool:
        """Whether there are as many as there may be."""
        return len(self._of) >= MAX_CONTENTS

    # -- coming and going -----------------------------------------------------------------------

    def make(
        self,
        key: Key,
        name: str,
        media: MediaType,
        disposition: int,
        *,
        wants_sending: bool = True,
        wants_receiving: bool = True,
        pending: bool = False,
    ) -> CallContent:
        """A new one, which nobody is told of yet (see ``show``).

        Args: as of ``CallContent``.
        """
        self._made += 1
        content = self._of[key] = CallContent(
            self._owner,
            f"{self._path}/Content{self._made}",
            key,
            self._free_name(name),
            media,
            disposition,
            wants_sending=wants_sending,
            wants_receiving=wants_receiving,
            pending=pending,
            muted=self.mute is Mute.MUTED,
        )
        self.show_mute()
        return content

    def make_ours(
        self, role: Role, name: str, media: MediaType, *, sends: bool, receives: bool
    ) -> CallContent:
        """The user here adds one."""
        return self.make(
            (str(role), f"{media.word}{self._made + 1}"),
            name or media.word,
            media,
            ADDED,
            wants_sending=sends,
            wants_receiving=receives,
        )

    def show(self, content: CallContent) -> None:
        """It is there from now on."""
        self._events.emit(ObjectAdded(content))
        self._events.emit(ContentAdded(content.object_path))

    def take_back(self, content: CallContent) -> None:
        """It was never shown."""
        self._of.pop(content.key, None)

    def drop(self, key: Key, reason: StateReason) -> None:
        """It is no more; nothing happens if there is none."""
        content = self._of.pop(key, None)
        if content is not None:
            content.stop_tone()
            self._events.emit(ContentRemoved(content.object_path, reason.struct()))
            self._events.emit(ObjectRemoved(content.object_path))
            self.show_mute()

    def drop_all(self, reason: StateReason) -> None:
        """The call is over."""
        for key in list(self._of):
            self.drop(key, reason)

    def _free_name(self, name: str) -> str:
        taken = {each.name for each in self._of.values()}
        numbered = (f"{name} ({number})" for number in range(1, MAX_CONTENTS + 1))
        return next(each for each in (name, *numbered) if each not in taken)

    # -- what the session has -------------------------------------------------------------------

    def begin_with(self, legs: Iterable[Leg]) -> dict[MediaType, str]:
        """A contact's offer at once, before the call is shown.

        Returns:
            The name of the first of each kind.
        """
        first: dict[MediaType, str] = {}
        for leg in legs:
            content = self.make(leg.key, leg.key[1], leg.media, INITIAL, pending=True)
            self.follow(leg)
            first.setdefault(leg.media, content.name)
        return first

    def replace_promised(self, legs: Iterable[Leg]) -> None:
        """The session of a call that was announced: its contents in the place of those promised.

        What was announced and is not offered goes; what is offered beside it is shown as added.
        """
        promised = list(self._of.items())
        for leg in legs:
            at = next((i for i, (_, each) in enumerate(promised) if each.media is leg.media), None)
            if at is None:
                self.add(leg)
                continue
            old, content = promised.pop(at)
            del self._of[old]
            content.key = leg.key
            self._of[leg.key] = content
            self.follow(leg)
        for key, _ in promised:
            self.drop(key, StateReason(self._owner.target_handle))

    def add(self, leg: Leg) -> None:
        """The contact adds one."""
        content = self.make(leg.key, leg.key[1], leg.media, ADDED, pending=True)
        self.follow(leg)
        self.show(content)

    def follow(self, leg: Leg) -> None:
        """Who sends is as the contact says now: stopped at once, but only asked to begin."""
        content = self._of.get(leg.key)
        if content is not None:
            role = self._owner.role
            content.directions(
                sends=may_send(role, leg.senders),
                receives=may_receive(role, leg.senders),
                reason=StateReason(self._owner.target_handle, Reason.USER_REQUESTED),
            )

    # -- mute -----------------------------------------------------------------------------------

    def show_mute(self) -> None:
        """Tell if the call as a whole has become muted, unmuted, or partly so."""
        if not self._of:
            return
        muted = {each.muted for each in self._of.values()}
        state = Mute.MUTED if muted == {True} else Mute.UNMUTED
        if len(muted) > 1:
            state = Mute.PARTIALLY_MUTED
        if state is not self.mute:
            self.mute = state
            self._events.emit(MuteStateChanged(int(state)))
