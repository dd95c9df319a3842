"""One channel on the bus, from its announcement until it closes."""

from __future__ import annotations

from collections.abc import Callable

from telepathy_e2e.bus.channels.base import ChannelInterface
from telepathy_e2e.bus.channels.table import BELOW, INTERFACES, typed
from telepathy_e2e.bus.channels.verification import TLSCertificateInterface
from telepathy_e2e.bus.objects import Objects
from telepathy_e2e.bus.wire import Variant
from telepathy_e2e.service.certificate import TLSCertificate
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import (
    CertificateAccepted,
    CertificateEvent,
    CertificateRejected,
    Changed,
    ChannelEvent,
    Closed,
    ObjectAdded,
    ObjectRemoved,
    Shown,
)


class ChannelObject:
    """Shows a channel, and what its service object tells.

    Args:
        on_closed: called when the channel has left the bus.
    """

    def __init__(
        self, objects: Objects, channel: Channel, on_closed: Callable[[str], None]
    ) -> None:
        self.channel = channel
        self._objects = objects
        self._on_closed = on_closed
        self._base = ChannelInterface(channel)
        self._interfaces = {
            name: INTERFACES[name](channel) for name in (channel.channel_type, *channel.interfaces)
        }
        self._certificate = getattr(channel, "certificate", None)
        objects.export(channel.object_path, self._base, *self._interfaces.values())
        self._unsubscribe = [channel.events.subscribe(self._event)]
        self._below: dict[str, Callable[[], None]] = {}
        for each in getattr(channel, "objects", ()):
            self._add_below(each)
        if isinstance(self._certificate, TLSCertificate):
            shown = TLSCertificateInterface(self._certificate)
            objects.export(self._certificate.object_path, shown)
            self._unsubscribe.append(
                self._certificate.events.subscribe(lambda event: _tell(shown, event))
            )

    @property
    def immutable_properties(self) -> dict[str, Variant]:
        """As NewChannels shows them."""
        return typed(self.channel.immutable_properties())

    def withdraw(self) -> None:
        """Take the channel off the bus, with its certificate."""
        for unsubscribe in (*self._unsubscribe, *self._below.values()):
            unsubscribe()
        self._objects.withdraw_below(self.channel.object_path)

    def _event(self, event: ChannelEvent) -> None:
        match event:
            case Closed():
                self._base.Closed()
                self.withdraw()
                self._on_closed(self.channel.object_path)
            case ObjectAdded(below):
                self._add_below(below)
            case ObjectRemoved(path):
                for each in [p for p in self._below if p == path or p.startswith(path + "/")]:
                    self._below.pop(each)()
                self._objects.withdraw_below(path)
            case Changed(of, names):
                self._objects.changed(self.channel.object_path, of, names)
            case _:
                shown = self._interfaces[event.interface or self.channel.channel_type]
                shown.tell(event)

    def _add_below(self, shown: Shown) -> None:
        """An object of the channel, with its own below it."""
        interfaces = {
            name: BELOW[name](shown) for name in (shown.object_interface, *shown.interfaces)
        }
        self._objects.export(shown.object_path, *interfaces.values())

        def tell(event: ChannelEvent) -> None:
            match event:
                case Changed(of, names):
                    self._objects.changed(shown.object_path, of, names)
                case _:
                    interfaces[event.interface].tell(event)

        self._below[shown.object_path] = shown.events.subscribe(tell)
        for each in shown.objects:
            self._add_below(each)


def _tell(shown: TLSCertificateInterface, event: CertificateEvent) -> None:
    match event:
        case CertificateAccepted():
            shown.Accepted()
        case CertificateRejected(rejections):
            shown.Rejected([list(each) for each in rejections])
