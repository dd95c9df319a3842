"""One session with the server, over all the streams that carry it: opened, kept, taken up again.

slixmpp is imported by ``open`` and not before.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
from collections.abc import Callable
from itertools import chain, repeat
from types import ModuleType
from typing import TYPE_CHECKING, Literal
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    ConnectionLost,
    ConnectionRefused,
    Disconnected,
    InvalidArgument,
    NetworkError,
    NotAvailable,
    TelepathyError,
)
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.authenticator import Asking
from telepathy_e2e.xmpp.binding import SessionGone
from telepathy_e2e.xmpp.iq import Iqs, IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import domain_of
from telepathy_e2e.xmpp.management import StreamManagement
from telepathy_e2e.xmpp.markup import serialise
from telepathy_e2e.xmpp.opening import Opening
from telepathy_e2e.xmpp.settings import Settings

if TYPE_CHECKING:
    import ssl

    from telepathy_e2e.xmpp.stream import Stream
    from telepathy_e2e.xmpp.targets import Target

log = logging.getLogger(__name__)

# Seconds from open() to a bound session, without those in which people think.
CONNECT_SECONDS = 60.0
# Seconds in which a server that is asked whether it lives has to say so.
PING_SECONDS = 20.0
# Seconds between attempts to get a session back; the last one is for all that follow.
RETRY_SECONDS = (0.2, 1.0, 2.0, 4.0, 8.0, 15.0)
# Refusals after which the server is taken to be down. One may be a router that has just woken up.
MAX_REFUSED = 2

CSI = "urn:xmpp:csi:0"
PING = "urn:xmpp:ping"


class Session:
    """Not used twice.

    Args:
        account: JID, normalised.
        asking: how to log in.
        received: gets every message and presence.
        ended: told once when a session that was open is over, with the reason (None: we closed it)
            and what was sent and never confirmed.
        tasks: owns the tasks of all streams.

    Attributes:
        iqs: questions and answers; they outlive a broken stream.
        jid: our full JID, empty before ``open`` returns.
    """

    def __init__(
        self,
        settings: Settings,
        account: str,
        asking: Asking,
        *,
        received: Callable[[Element], None],
        ended: Callable[[TelepathyError | None, list[Element]], None],
        tasks: TaskOwner,
    ) -> None:
        self.iqs = Iqs(self.put)
        self.jid = ""
        self._settings = settings
        self._account = account
        self._asking = asking
        self._opening = Opening(settings, account, asking, self._make_stream)
        self._received = received
        self._ended = ended
        self._tasks = tasks
        self._state: Literal["new", "opening", "up", "resuming", "over"] = "new"
        self._stream: Stream | None = None
        self._management = StreamManagement()
        self._inactive = False
        self._why: TelepathyError | None = None

    @property
    def is_up(self) -> bool:
        """Whether it is there, though its connection may be broken at the moment."""
        return self._state in ("up", "resuming")

    @property
    def offers(self) -> frozenset[str]:
        """The stream features after the login, as Clark names."""
        return self._stream.offers if self._stream is not None else frozenset()

    # -- opening and closing ----------------------------------------------------------------

    async def open(self) -> None:
        """Log in and bind.

        Raises:
            NotAvailable: used before.
            TelepathyError: see ``Client.connect``.
        """
        if self._state != "new":
            raise NotAvailable("This connection was used before; make a new one")
        self._state = "opening"
        try:
            async with asyncio.timeout(CONNECT_SECONDS) as limit:
                with self._asking.within(limit, CONNECT_SECONDS):
                    # A hundred modules: not in the event loop.
                    await asyncio.to_thread(_load_slixmpp)
                    self.jid = self.iqs.own = await self._opening.first()
        except TimeoutError:
            self._abandon()
            raise NetworkError("The server did not answer in time") from None
        except BaseException:
            self._abandon()
            raise
        if self._why is not None:
            self._abandon()
            raise self._why
        self._state = "up"
        if self._settings.keepalive_interval > 0:
            self._tasks.start("keepalive", self._keep_alive(self._settings.keepalive_interval))

    def _make_stream(self, target: Target, context: ssl.SSLContext) -> Stream:
        from telepathy_e2e.xmpp.stream import Stream

        self._stream = Stream(
            self._settings,
            self._account,
            target,
            context,
            asking=self._asking,
            iqs=self.iqs,
            management=self._management,
            stanza=self._received,
            resumed=self._resumed,
            closed=self._closed,
            tasks=self._tasks,
        )
        return self._stream

    def _abandon(self) -> None:
        self._state = "over"
        self.iqs.close()
        if self._stream is not None:
            self._stream.fail(NetworkError("The connection was given up"))
            _drop(self._stream)

    def give_up(self, error: TelepathyError) -> None:
        """End an ``open`` that is under way, with this error; nothing otherwise."""
        if self._state == "opening" and self._stream is not None:
            self._stream.fail(error)

    async def close(self) -> None:
        """Log out; whoever waits for an answer gets ``Disconnected``. Harmless if repeated."""
        if self._state in ("new", "resuming"):
            self._state = "over"
        self.iqs.close()
        if self._stream is not None:
            await self._stream.close()
            _drop(self._stream)

    def _closed(self, error: TelepathyError | None, broken: bool) -> None:
        """The current stream is over."""
        stream = self._stream
        if stream is not None and not stream.ready.done():
            # open() or _resume() is waiting, and raises it
            stream.ready.set_exception(error or Disconnected("The connection was given up"))
            if self._state in ("opening", "resuming"):
                return
        if self._state == "up" and error is not None and broken and self._management.resumable:
            log.info("the connection broke: %s", error)
            self._state = "resuming"
            self._tasks.start("resume", self._resume(error))
            return
        self.iqs.close()
        if self._state == "up":
            self._end(error)
        else:
            self._why = error

    def _end(self, error: TelepathyError | None) -> None:
        """A session that was up is over."""
        self._state = "over"
        self.iqs.close()
        answer = error.answer if isinstance(error, SessionGone) else None
        self._ended(error, self._management.lost(answer) if error is not None else [])

    # -- staying connected ------------------------------------------------------------------

    async def _keep_alive(self, interval: float) -> None:
        """Silence may be a dead server, or a router that forgot us (XEP-0199)."""
        while True:
            stream = self._stream
            before = stream.received if stream is not None else 0
            await asyncio.sleep(interval)
            if stream is None or stream is not self._stream or stream.received != before:
                continue
            try:
                await self.iqs.ask(
                    domain_of(self._account), Element(f"{{{PING}}}ping"), "get", PING_SECONDS
                )
            except StanzaError:
                continue  # it lives, and does not like pings
            except IqTimeout:
                if stream.received == before:
                    stream.fail(
                        ConnectionLost("The server does not answer any longer"), broken=True
                    )
            except Disconnected:
                return

    async def _resume(self, why: TelepathyError) -> None:
        """Get the session back on another connection (XEP-0198 section 5), or give it up."""
        now = asyncio.get_running_loop().time
        end = now() + self._management.seconds
        refused = 0
        for delay in chain(RETRY_SECONDS, repeat(RETRY_SECONDS[-1])):
            # Not at the same moment as everybody else whom this server lost.
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
            try:
                async with asyncio.timeout_at(min(end, now() + CONNECT_SECONDS)):
                    await self._opening.once()
                return
            except TimeoutError:
                if self._stream is not None:
                    self._stream.fail(why)
                    _drop(self._stream)
            except ConnectionRefused:
                # Nobody listens there: the server is down, and our session with it.
                refused += 1
                if refused == MAX_REFUSED:
                    break
            except SessionGone as error:
                why = error
                break
            except (NetworkError, ConnectionLost) as error:
                log.info("still no connection: %s", error)
            except TelepathyError as error:
                why = error
                break
            if now() >= end:
                break
        self._end(why)

    def _resumed(self) -> None:
        self._state = "up"
        if self._inactive:
            self.put(Element(f"{{{CSI}}}inactive"))  # a server forgets it (XEP-0352 section 5)

    # -- sending ----------------------------------------------------------------------------

    def put(self, element: Element) -> None:
        """Send a stanza, now or when the session goes on; dropped before and after the session.

        Raises:
            InvalidArgument: a character that XML cannot carry.
        """
        if self._stream is None:
            return
        try:
            data = serialise(element)
        except ValueError as error:
            raise InvalidArgument(f"This cannot be sent: {error}") from None
        try:
            request = self._management.sent(element)
        except ConnectionLost as error:
            self._stream.fail(error)
            return
        if self._state == "resuming":
            return
        self._stream.put_bytes(data, element)
        if request is not None:
            self._stream.put(request)

    @property
    def can_be_inactive(self) -> bool:
        """Whether the server wants to know that nobody looks (XEP-0352)."""
        return f"{{{CSI}}}csi" in self.offers

    def set_inactive(self, inactive: bool) -> None:
        """Tell the server that nobody looks, so that it may hold back what is not urgent."""
        if inactive != self._inactive:
            self._inactive = inactive
            if self._state == "up":
                self.put(Element(f"{{{CSI}}}{'inactive' if inactive else 'active'}"))


def _drop(stream: Stream) -> None:
    """Nobody waits for its session any longer."""
    if not stream.ready.cancel() and not stream.ready.cancelled():
        stream.ready.exception()  # raised already, or less telling than what was


def _load_slixmpp() -> None:
    """Import slixmpp without what it does not need here: 6 MB of the 35 that we may have.

    It loads pygments to colour logs that we never write, the packaging machinery (with e-mail and
    zip files) to find out its own version, and a resolver even where nothing is to be resolved.
    """
    if "telepathy_e2e.xmpp.stream" in sys.modules:
        return
    if "slixmpp" not in sys.modules:
        version = ModuleType("slixmpp.version")
        vars(version).update(__version__="", __version_info__=())
        sys.modules["slixmpp.version"] = version
    absent = [name for name in ("pygments", "aiodns") if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import telepathy_e2e.xmpp.stream  # noqa: F401
    finally:
        for name in absent:
            del sys.modules[name]
    # What has just been loaded stays: looked through again at every full collection it would hold
    # the event loop for 20 ms.
    gc.freeze()
