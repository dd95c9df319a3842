"""A transfer with a scripted peer that waits for the answer to its question."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import pytest

from telepathy_e2e.verify import messages
from tests.peer.bench import Bench, Case
from tests.peer.client import Peer
from tests.peer.transfer import Transfer
from tests.peer.xtls import Secured
from tests.support.side import E2E, SECURABLE, VERIFICATION

ROLES = pytest.mark.parametrize("role", ["the daemon receives", "the daemon sends"])
DATA = b"only when they are sure" * 500


@dataclass
class Asked:
    """A transfer that waits for the answer to its question."""

    bench: Bench
    case: Case
    secured: Secured
    question: str

    async def user(self, method: str, *arguments: Any) -> None:
        """What the user here does."""
        signature = {bool: "b", str: "s"}
        types = "".join(signature[type(each)] for each in arguments)
        await self.bench.side.cm(self.question, VERIFICATION, method, types, *arguments)

    async def string(self) -> str:
        """The string that the user here sees."""
        found = await self.bench.side.signal(
            lambda s: (
                s.path == self.question
                and s.member == "PropertiesChanged"
                and bool(s.body[1].get("ShortAuthenticationString"))
            )
        )
        return str(found.body[1]["ShortAuthenticationString"])

    def saw_a_string(self) -> bool:
        return any(
            each.path == self.question
            and each.member == "PropertiesChanged"
            and each.body[1].get("ShortAuthenticationString")
            for each in self.bench.side.signals
        )

    def prompts(self) -> int:
        """How often the user was told that the other side began."""
        return sum(
            each.path == self.question and each.member == "PeerStarted"
            for each in self.bench.side.signals
        )

    async def prompted(self, times: int = 1) -> None:
        await self.bench.side.signal(lambda _: self.prompts() >= times)

    async def state(self) -> str:
        return str(await self.bench.side.get(self.question, VERIFICATION, "State"))

    async def cancelled(self) -> tuple[str, str]:
        """The next ``<cancel/>`` that the daemon sends: (id, reason)."""
        element = await self.secured.hear("cancel")
        return element.get("id", ""), element.get("reason", "")

    async def verified(self) -> bool:
        return bool(await self.bench.side.get(self.case.path, SECURABLE, "Verified"))

    async def ends(self, reason: int) -> None:
        """The transfer ends in distrust, and not a byte was given to anybody."""
        await self.bench.failed(self.case, reason, "security-error")
        assert (await self.bench.side.get(self.case.path, E2E, "Error")).endswith("Cert.Untrusted")
        await self.bench.got_nothing(self.case)
        assert not self.bench.opened(self.case)

    async def compare(self, ceremony: str, nonce: bytes) -> str:
        """An honest comparison that we start, up to the string on our side."""
        await self.secured.commit(ceremony, nonce)
        await self.prompted()
        await self.user("StartSAS")
        return await self.reveal(ceremony, nonce)

    async def reveal(self, ceremony: str, nonce: bytes) -> str:
        """The user here has agreed."""
        theirs = messages.parse(await self.secured.hear("sas-nonce"))
        assert isinstance(theirs, messages.Message)
        assert await self.say("sas-reveal", ceremony, nonce) == ("", "")
        return self.secured.string(ceremony, nonce, theirs.content)

    def failures(self) -> list[tuple[str, str, bool]]:
        """The ceremonies that came to nothing, as the user here saw them."""
        return [
            each.body
            for each in self.bench.side.signals
            if each.path == self.question and each.member == "CeremonyFailed"
        ]

    async def failure(self, number: int = 1) -> tuple[str, str, bool]:
        """The number-th: (method, reason, spent)."""
        await self.bench.side.signal(lambda _: len(self.failures()) >= number)
        return self.failures()[number - 1]

    async def say(
        self, name: str, ceremony: str, content: bytes | None = None, **attributes: str
    ) -> tuple[str, str]:
        return await self.secured.say(messages.build(name, ceremony, content, **attributes))


async def asked(
    bench: Bench,
    role: str = "the daemon receives",
    *,
    methods: tuple[str, ...] = ("sas", "password"),
    peer: Peer | None = None,
    **how: Any,
) -> Asked:
    """Protected, and the question is put.

    The peer is a stranger when the daemon receives: tries are counted for each contact and day.
    """
    if role == "the daemon receives":
        stranger = peer or await bench.stranger()
        case = await bench.receives(DATA, transfer_=Transfer(stranger.session(bench.jid)), **how)
    else:
        case = await bench.sends(DATA, **how)
    secured = await (await case.transfer.secured().handshake()).hellos(methods=methods)
    return Asked(bench, case, secured, await bench.question(case))


def nonce() -> bytes:
    return secrets.token_bytes(32)


async def completes(a: Asked, role: str) -> None:
    if role == "the daemon receives":
        await a.secured.write(DATA)
        await a.secured.write_eof()
        assert await a.case.client == DATA
    else:
        got = b""
        while len(got) < len(DATA):
            got += await a.secured.read()
        assert got == DATA
        await a.case.transfer.session.terminate("success")
    await a.bench.completed(a.case)
