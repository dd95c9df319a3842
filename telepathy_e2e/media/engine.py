"""The media of one call (edge). Everything runs in the event loop's thread; not thread-safe.

::

    engine = MediaEngine(controlling=initiator, credentials=…, servers=[], events=on_event)
    engine.add_road("audio")                               # a transport; the name of a content
    engine.local_transport("audio", setup="actpass") -> jingle.ice.Transport
    await engine.gather("audio")            # LocalCandidates…, GatheringDone; run it as a task
    engine.remote_transport("audio", transport)            # each <transport/> of the peer
    engine.start("audio", "client" | "server", fingerprints, strict_leaf=True)
                                            # then Connected or RoadFailed; 30 s for ICE, then 30 s
    engine.export("audio", label, context, length) -> bytes
    await engine.close_road("audio")                       # not bundled after all, or removed
    engine.restart("audio") -> jingle.ice.Transport        # then gather again, remote_transport

    engine.local_sources(name, media) -> (sources, groups)  # for our <description/>, if wanted
    await engine.open_content(name, road, send=…, receive=…, source="tone", sink="null", mid=name)
    await engine.change_content(name, send=…, receive=…, source=…, sink=…)
    await engine.replace_source(name, spec); await engine.replace_sink(name, spec)
    await engine.close_content(name)
    engine.mute(name, True); engine.hold(True)             # of all contents
    engine.set_volumes(name, sent=128, played=255)         # of 255, a share of the amplitude
    engine.dtmf(name, event, duration_ms)                  # 0-9, 10 *, 11 #, 12-15 A-D
    await engine.stats() -> {name: Stats}
    await engine.close()                                   # everything; may be called twice

``send`` and ``receive`` are ``jingle.rtp.Description``: what may be sent (the peer's payload types
that both have, the wanted codec first) and what is taken (ours, with the peer's ``sources`` and
``groups``); None: not in this direction. Sources and sinks are strings (see ``sources`` and
``sinks``) or objects of theirs. ``events`` is called with what ``events`` (the module) lists,
synchronously, also while one of these methods runs.

Nothing of RTP is sent, decoded or kept before ``open_content``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Literal

from aiortc.exceptions import InvalidStateError

from telepathy_e2e.errors import InvalidArgument, NotAvailable
from telepathy_e2e.jingle.ice import DtlsFingerprint, Transport
from telepathy_e2e.jingle.rtp import Description, SourceGroup
from telepathy_e2e.jingle.rtp import Source as RtpSource
from telepathy_e2e.media.content import Content, Stats, new_ssrc
from telepathy_e2e.media.events import MediaEvent
from telepathy_e2e.media.frames import Kind
from telepathy_e2e.media.road import Road
from telepathy_e2e.media.servers import IceServer
from telepathy_e2e.media.sinks import Sink, open_sink
from telepathy_e2e.media.sources import Source, open_source
from telepathy_e2e.xtls.identity import Credentials

__all__ = ["IceServer", "MediaEngine", "Stats"]


class MediaEngine:
    """One call.

    Args:
        controlling: we are the Jingle initiator (RFC 8445 section 6.1.1).
        credentials: for DTLS on every road.
        servers: STUN and TURN; empty: none is asked.
        events: see above.
    """

    def __init__(
        self,
        *,
        controlling: bool,
        credentials: Credentials,
        servers: Sequence[IceServer],
        events: Callable[[MediaEvent], None],
    ) -> None:
        self._controlling = controlling
        self._credentials = credentials
        self._servers = tuple(servers)
        self._events = events
        self._roads: dict[str, Road] = {}
        self._contents: dict[str, Content] = {}
        self._ssrcs: dict[str, tuple[int, int]] = {}
        # RFC 7022: says nothing about who, the same for all streams of a call.
        self._cname = secrets.token_urlsafe(12)
        self._held = False
        self._closed = False

    # -- roads ----------------------------------------------------------------------------------

    def add_road(self, name: str) -> None:
        """A transport of its own.

        Raises:
            InvalidArgument: there is one of this name.
        """
        if self._closed:
            raise NotAvailable("The call has ended")
        if name in self._roads:
            raise InvalidArgument("There is a road of this name")
        self._roads[name] = Road(
            name,
            controlling=self._controlling,
            credentials=self._credentials,
            servers=self._servers,
            events=self._events,
        )

    def local_transport(self, road: str, setup: str = "actpass") -> Transport:
        """Credentials of ICE, the fingerprint, and the candidates that are known so far."""
        return self._road(road).local_transport(setup)

    async def gather(self, road: str) -> None:
        """Find candidates: ``LocalCandidates`` as they come, then ``GatheringDone``.

        Takes as long as the servers do, at most some seconds; what is gathered can be used
        meanwhile.
        """
        await self._road(road).gather()

    def remote_transport(self, road: str, transport: Transport) -> None:
        """What the peer said of his side.

        The first credentials count; others are a restart (``RestartWanted``). Candidates that
        cannot be used, or are too many, are skipped.
        """
        self._road(road).remote_transport(transport)

    def start(
        self,
        road: str,
        dtls_role: Literal["client", "server"],
        peer_fingerprints: Sequence[DtlsFingerprint],
        *,
        strict_leaf: bool = True,
    ) -> None:
        """ICE as soon as both sides' credentials and our sockets are there, then DTLS.

        Args:
            peer_fingerprints: all whose hash we know must match.
            strict_leaf: the peer's certificate has the form of our leaves (spec/xtls.md); not
                for browsers and other clients, whom the fingerprint alone identifies.
        """
        self._road(road).start(dtls_role, peer_fingerprints, strict_leaf)

    def restart(self, road: str) -> Transport:
        """ICE anew, over which the same DTLS association goes on; ``Restarted`` when it is there.

        Returns:
            Our new transport for the peer; ``gather`` must be called again.
        """
        return self._road(road).restart()

    def export(self, road: str, label: bytes, context: bytes, length: int) -> bytes:
        """Keying material of the DTLS association (RFC 5705).

        Raises:
            NotAvailable: not connected.
        """
        return self._road(road).export(label, context, length)

    async def close_road(self, road: str) -> None:
        """Nothing may be open on it."""
        await self._road(road).close()
        del self._roads[road]

    # -- contents -------------------------------------------------------------------------------

    def local_sources(
        self, name: str, media: Kind
    ) -> tuple[tuple[RtpSource, ...], tuple[SourceGroup, ...]]:
        """The SSRCs that the content will have, for our description (XEP-0294, XEP-0339)."""
        ssrc, rtx = self._ssrcs.setdefault(name, (new_ssrc(), new_ssrc()))
        parameters = (("cname", self._cname), ("msid", f"{self._cname} {name}"))
        sources = (RtpSource(ssrc, parameters),)
        if media == "audio":
            return sources, ()
        return (*sources, RtpSource(rtx, parameters)), (SourceGroup("FID", (ssrc, rtx)),)

    async def open_content(
        self,
        name: str,
        road: str,
        *,
        send: Description | None,
        receive: Description | None,
        source: str | Source = "silence",
        sink: str | Sink = "null",
        mid: str = "",
    ) -> None:
        """Let media through.

        Args:
            road: must be connected.
            source, sink: only of directions that are used.
            mid: for the header extension (RFC 8843 section 15).
        Raises:
            NotAvailable: the road is not connected; a ``MediaUnavailable`` if a source or sink
                cannot be opened: nothing is open then.
            InvalidArgument: there is one of this name, or no codec that we have.
        """
        if name in self._contents:
            raise InvalidArgument("There is a content of this name")
        kinds = {each.media for each in (send, receive) if each is not None}
        if kinds not in ({"audio"}, {"video"}):
            raise InvalidArgument("A content is audio or video")
        kind: Kind = "audio" if kinds == {"audio"} else "video"
        there = self._road(road)
        if there.dtls is None or there.facts is None or there.dtls.state != "connected":
            raise NotAvailable("The road is not connected")
        # Once used, never again: see ``inside_aiortc.enable``.
        ssrcs = self._ssrcs.pop(name, None) or (new_ssrc(), new_ssrc())
        content = Content(name, kind, mid, ssrcs, self._cname, there.dtls, self._events)
        self._contents[name] = content
        try:
            await self._change(content, send, receive, source, sink)
            if self._closed:
                raise NotAvailable("The call has ended")
        except BaseException:
            self._contents.pop(name, None)
            await content.close()
            raise
        content.hold(self._held)

    async def change_content(
        self,
        name: str,
        *,
        send: Description | None,
        receive: Description | None,
        source: str | Source | None = None,
        sink: str | Sink | None = None,
    ) -> None:
        """Other directions. The codec stays what it was when a direction was first opened.

        Args:
            source, sink: None: those that there are.
        """
        await self._change(self._content(name), send, receive, source, sink)

    async def replace_source(self, name: str, source: str | Source) -> None:
        """Another device, while the content goes on."""
        content = self._content(name)
        await content.replace_source(await _source(source, content.kind))

    async def replace_sink(self, name: str, sink: str | Sink) -> None:
        content = self._content(name)
        await content.replace_sink(await _sink(sink, content.kind))

    async def close_content(self, name: str) -> None:
        """Stop it; its name may be used again."""
        content = self._content(name)
        del self._contents[name]
        await content.close()

    def mute(self, name: str, on: bool) -> None:
        """Silence or black is sent instead of what the source gives."""
        self._content(name).mute(on)

    def set_volumes(self, name: str, *, sent: int, played: int) -> None:
        """How loud it is for the peer, and here: see ``volume``. Pictures have none."""
        self._content(name).set_volumes(sent, played)

    def hold(self, on: bool) -> None:
        """Nothing is sent or taken, of any content, until told otherwise."""
        self._held = on
        for content in self._contents.values():
            content.hold(on)

    def dtmf(self, name: str, event: int, duration_ms: int = 100) -> None:
        """Press a key; it is sent after those before it.

        Raises:
            InvalidArgument: no such key.
            NotAvailable: the other side does not take keys, or too many wait.
        """
        self._content(name).dtmf(event, duration_ms)

    async def stats(self) -> dict[str, Stats]:
        return {name: await content.stats() for name, content in list(self._contents.items())}

    async def close(self) -> None:
        """End everything."""
        self._closed = True
        contents, self._contents = list(self._contents.values()), {}
        for content in contents:
            await content.close()
        roads, self._roads = list(self._roads.values()), {}
        for road in roads:
            await road.close()

    # -- inside ---------------------------------------------------------------------------------

    def _road(self, name: str) -> Road:
        try:
            return self._roads[name]
        except KeyError:
            raise NotAvailable("There is no road of this name") from None

    def _content(self, name: str) -> Content:
        try:
            return self._contents[name]
        except KeyError:
            raise NotAvailable("There is no content of this name") from None

    async def _change(
        self,
        content: Content,
        send: Description | None,
        receive: Description | None,
        source: str | Source | None,
        sink: str | Sink | None,
    ) -> None:
        try:
            if receive is None:
                content.pause_receiving()
            else:
                if sink is None and not content.receives:
                    sink = "null"
                there = None if sink is None else await _sink(sink, content.kind)
                await content.receive(receive, there)
            if send is None:
                content.pause_sending()
            else:
                if source is None and not content.sends:
                    source = "null"
                here = None if source is None else await _source(source, content.kind)
                await content.send(send, here)
        except InvalidStateError:
            raise NotAvailable("The road is not connected") from None
        except ValueError as error:
            raise InvalidArgument(f"This cannot be sent or received: {error}") from None


async def _source(source: str | Source, kind: Kind) -> Source:
    return await open_source(source, kind) if isinstance(source, str) else source


async def _sink(sink: str | Sink, kind: Kind) -> Sink:
    return await open_sink(sink, kind) if isinstance(sink, str) else sink
