"""The desktop's keyring, by the Secret Service API (org.freedesktop.secrets, 0.2 draft).

What it keeps is the random passphrase of an identity key, never the key: without our file it is
of no use, and that file without it is of none. Any program of the session can ask an unlocked
keyring for it, as most keyrings ask nobody which program it is.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from telepathy_e2e.agent.seal import MAX_PASSPHRASE
from telepathy_e2e.agent.secret_session import ALGORITHM, BadSecret, Exchange, SecretCipher
from telepathy_e2e.bus.wire import DBUS, Bus, Variant
from telepathy_e2e.errors import NotAvailable, PermissionDenied, RemoteError

log = logging.getLogger(__name__)

NAME: Final = "org.freedesktop.secrets"
PATH: Final = "/org/freedesktop/secrets"
SERVICE: Final = "org.freedesktop.Secret.Service"
COLLECTION: Final = "org.freedesktop.Secret.Collection"
ITEM: Final = "org.freedesktop.Secret.Item"
PROMPT: Final = "org.freedesktop.Secret.Prompt"
SESSION: Final = "org.freedesktop.Secret.Session"

# The attributes of our items. Their names are constant: an item that cannot be found is a key lost.
APPLICATION: Final = "telepathy-e2e"
ATTRIBUTE_APPLICATION: Final = "application"
ATTRIBUTE_ACCOUNT: Final = "account"
ATTRIBUTE_IDENTITY: Final = "identity-sha-256"

# "No object" in this API.
NOTHING: Final = "/"

# Seconds for all that a keyring does without asking anybody; a start of it is in there.
PATIENCE: Final = 20.0

# Seconds for a person to type the keyring's password.
PROMPT_PATIENCE: Final = 120.0

# Items that one identity may have: the one that counts, and those of attempts that were cut off.
MAX_ITEMS: Final = 16


class _Session:
    """One exchange of keys with the service that owns the name at this time."""

    def __init__(self, owner: str, path: str, cipher: SecretCipher) -> None:
        self.owner, self.path, self.cipher = owner, path, cipher


class Keyring:
    """One operation at a time, so that a person has one prompt at a time.

    All methods raise:
        NotAvailable: there is no keyring, it is locked, it went away, does not answer in time, or
            says what makes no sense.
        PermissionDenied: the person closed the keyring's prompt.

    Args:
        bus: the session bus.
        patience, prompt_patience: seconds, see above.
    """

    def __init__(
        self, bus: Bus, *, patience: float = PATIENCE, prompt_patience: float = PROMPT_PATIENCE
    ) -> None:
        self._bus = bus
        self._patience = patience
        self._prompt_patience = prompt_patience
        self._one = asyncio.Lock()

    async def find(self, account: str, identity: bytes) -> list[bytes]:
        """The passphrases that are kept for this identity; at least one.

        Args:
            identity: its fingerprint, 32 bytes.
        """
        async with self._session() as session:
            items = await self._items(session, account, identity)
            if not items:
                raise NotAvailable(
                    f"The desktop's keyring does not have the passphrase of {account}'s identity"
                    " key any more; only a backup of the keyring, or of the identity, helps"
                )
            await self._unlock(session, items)
            return [await self._secret(session, item) for item in items]

    async def keep(self, account: str, identity: bytes, passphrase: bytes) -> None:
        """Keep a passphrase beside those that are there; it is there when this returns."""
        async with self._session() as session:
            if len(await self._items(session, account, identity)) >= MAX_ITEMS:
                raise NotAvailable(
                    f"The keyring has {MAX_ITEMS} passphrases of this key already, from attempts"
                    " that were cut off; delete them there"
                )
            collection = await self._default(session)
            await self._unlock(session, [collection])
            vector, data = session.cipher.encrypt(passphrase)
            properties = {
                ITEM + ".Label": Variant("s", f"telepathy-e2e: identity key of {account}"),
                ITEM + ".Attributes": Variant("a{ss}", _attributes(account, identity)),
            }
            secret = [session.path, vector, data, "text/plain"]
            # Never in the place of another one: that may be what a copy of the key is sealed with.
            item, prompt = await self._call(
                *(session, collection, COLLECTION, "CreateItem", "a{sv}(oayays)b", "oo"),
                *(properties, secret, False),
            )
            if prompt != NOTHING:
                item = await self._prompt(session, prompt)
            if not isinstance(item, str) or item == NOTHING:
                raise _nonsense()
            # What is lost here is an identity: not before it can be had again is it used.
            if not hmac.compare_digest(await self._secret(session, item), passphrase):
                raise NotAvailable("The keyring does not give back what it was given to keep")

    async def forget(self, account: str, identity: bytes) -> None:
        """Delete what is kept for this identity; nothing may be."""
        async with self._session() as session:
            for item in await self._items(session, account, identity):
                (prompt,) = await self._call(session, item, ITEM, "Delete", "", "o")
                if prompt != NOTHING:
                    await self._prompt(session, prompt)

    # -- the service ----------------------------------------------------------------------------

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[_Session]:
        async with self._one:
            exchange = Exchange()
            asked = Variant("ay", exchange.share)
            # The name, not its owner: this call may have to start it.
            share, path = await self._call(
                NAME, PATH, SERVICE, "OpenSession", "sv", "vo", ALGORITHM, asked
            )
            try:
                owner = await self._bus.owner(NAME)
                value = share.value if isinstance(share, Variant) else b""
                cipher = exchange.finish(bytes(value) if isinstance(value, bytes) else b"")
            except RemoteError as error:
                raise _explained(error) from error
            except BadSecret:
                raise _nonsense() from None
            session = _Session(owner, path, cipher)
            try:
                yield session
            finally:
                with suppress(NotAvailable):
                    await self._call(session, path, SESSION, "Close", "", "")

    async def _items(self, session: _Session, account: str, identity: bytes) -> list[str]:
        wanted = _attributes(account, identity)
        unlocked, locked = await self._call(
            session, PATH, SERVICE, "SearchItems", "a{ss}", "aoao", wanted
        )
        return [*unlocked, *locked][:MAX_ITEMS]

    async def _default(self, session: _Session) -> str:
        (found,) = await self._call(session, PATH, SERVICE, "ReadAlias", "s", "o", "default")
        if found == NOTHING:
            raise NotAvailable(
                "The desktop has no default keyring; make one in its settings, then try again"
            )
        return str(found)

    async def _unlock(self, session: _Session, objects: list[str]) -> None:
        unlocked, prompt = await self._call(session, PATH, SERVICE, "Unlock", "ao", "aoo", objects)
        if prompt != NOTHING:
            more = await self._prompt(session, prompt)
            unlocked = [*unlocked, *(more if isinstance(more, list) else [])]
        if not unlocked and objects:
            raise NotAvailable("The desktop's keyring is locked; unlock it, then try again")

    async def _secret(self, session: _Session, item: str) -> bytes:
        ((_, vector, data, _),) = await self._call(
            session, item, ITEM, "GetSecret", "o", "(oayays)", session.path
        )
        try:
            secret = session.cipher.decrypt(bytes(vector), bytes(data))
        except BadSecret:
            raise _nonsense() from None
        return secret[: MAX_PASSPHRASE + 1]

    async def _prompt(self, session: _Session, prompt: str) -> Any:
        """Let the keyring ask the person; what it has to say afterwards."""
        said: asyncio.Queue[list[Any] | None] = asyncio.Queue()

        def completed(sender: str, member: str, body: list[Any]) -> None:
            # Anybody can send a signal; the service is believed.
            if sender == session.owner and member == "Completed":
                said.put_nowait(body)

        def gone(sender: str, member: str, body: list[Any]) -> None:
            if sender == DBUS and member == "NameOwnerChanged" and body[0] == session.owner:
                said.put_nowait(None)

        rule = f"type='signal',sender='{session.owner}',path='{prompt}'"
        leaving = f"type='signal',sender='{DBUS}',member='NameOwnerChanged',arg0='{session.owner}'"
        try:
            async with (
                self._bus.listening(rule, completed, path=prompt),
                self._bus.listening(leaving, gone),
            ):
                await self._call(session, prompt, PROMPT, "Prompt", "s", "", "")
                async with asyncio.timeout(self._prompt_patience):
                    body = await said.get()
        except RemoteError as error:
            raise _explained(error) from error
        except TimeoutError:
            with suppress(NotAvailable):
                await self._call(session, prompt, PROMPT, "Dismiss", "", "")
            raise NotAvailable("Nobody answered the keyring's question in time") from None
        if body is None:
            raise NotAvailable("The desktop's keyring went away; try again")
        if len(body) != 2 or not isinstance(body[0], bool):
            raise _nonsense()
        if body[0]:
            raise PermissionDenied("The keyring's question was dismissed, so its passphrase is not")
        return body[1]

    async def _call(
        self,
        session: _Session | str,
        path: str,
        interface: str,
        member: str,
        signature: str,
        expected: str,
        *body: object,
    ) -> list[Any]:
        """A method of the service; the reply's body, of the signature that is expected."""
        owner = session if isinstance(session, str) else session.owner
        try:
            async with asyncio.timeout(self._patience):
                return await self._bus.call(
                    owner, path, interface, member, signature, body, expected=expected
                )
        except TimeoutError:
            raise NotAvailable("The desktop's keyring does not answer; try again") from None
        except RemoteError as error:
            raise _explained(error) from error


def _attributes(account: str, identity: bytes) -> dict[str, str]:
    return {
        ATTRIBUTE_APPLICATION: APPLICATION,
        ATTRIBUTE_ACCOUNT: account,
        ATTRIBUTE_IDENTITY: identity.hex(),
    }


def _nonsense() -> NotAvailable:
    return NotAvailable("The desktop's keyring says what makes no sense")


def _explained(error: RemoteError) -> NotAvailable:
    """In words that a person can act on."""
    log.info("the keyring: %s", error.name)
    match error.name.rpartition(".")[2]:
        case "ServiceUnknown" | "NameHasNoOwner":
            return NotAvailable(
                "There is no keyring on this desktop (nothing provides the Secret Service)"
            )
        case "NoReply" | "Disconnected":
            return NotAvailable("The desktop's keyring went away, or does not answer; try again")
        case "IsLocked":
            return NotAvailable("The desktop's keyring is locked; unlock it, then try again")
        case "NoSuchObject" | "UnknownObject" | "UnknownMethod":
            return NotAvailable("The desktop's keyring lost what it was asked for; try again")
        case "InvalidSignature":
            return _nonsense()
    return NotAvailable("The desktop's keyring refused; its own log may say why")
