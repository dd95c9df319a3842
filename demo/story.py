"""The demo, act by act. Read it from ``play`` downwards."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule

from demo.desktop import Command, Desktop, Failed
from demo.spy import Tap, entropy, stretches_on_the_wire
from tests.support.prosody import PASSWORD, Prosody

# Stretches of the file that are looked for on the wire.
STRETCHES = 1000

# Act one needs no more to show that the tap works.
CLEAR_SIZE = 2_000_000

COLOURS = {"alice": "magenta", "bob": "cyan", "server": "yellow"}


class Demo:
    """Everything on the stage; ``play`` and then ``close``."""

    def __init__(self, console: Console, file: Path | None, size: int) -> None:
        self._console = console
        self._directory = Path(tempfile.mkdtemp(prefix="telepathy-e2e-demo-"))
        self._given = file
        self._size = size
        self._server: Prosody | None = None
        self._tap = Tap(self._directory)
        self.alice = Desktop("alice", self._directory)
        self.bob = Desktop("bob", self._directory)
        self._downloads = self._directory / "downloads"
        self._downloads.mkdir()

    async def play(self) -> None:
        """The whole story.

        Raises:
            Failed: something did not come out as it must.
        """
        self._heading("The stage")
        await self._build()
        self._heading("Act one: without protection, so that you see that the tap works")
        await self._in_the_clear()
        self._heading("Act two: the same, encrypted and verified")
        await self._protected()

    async def close(self) -> None:
        """Take everything down again."""
        await asyncio.gather(self.alice.stop(), self.bob.stop())
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
        self._tap.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    # -- the stage --------------------------------------------------------------------------

    async def _build(self) -> None:
        self._server = await asyncio.to_thread(
            Prosody.start,
            accounts=("alice", "bob"),
            modules=("spy",),
            module_directory=Path(__file__).parent / "prosody",
            settings=self._tap.settings,
        )
        self._say(
            "server",
            f"a real Prosody on {self._server.host}, for {self._server.domain}. It spies: it leads "
            "the connections between Alice and Bob through a tap of its own.",
        )
        for desktop in (self.alice, self.bob):
            await desktop.start()
            self._say(
                desktop.name,
                "a session bus of her own; the bus starts the connection manager when it is called."
                if desktop is self.alice
                else "a bus and a connection manager of his own, too.",
            )

    async def _log_in(self, policy: str) -> None:
        for desktop in (self.alice, self.bob):
            server = self._the_server
            said = await desktop.run(
                "connect",
                server.jid(desktop.name),
                "--server",
                server.host,
                "--port",
                str(server.port),
                "--ca-file",
                str(server.ca_file),
                "--param",
                f"e2e-policy={policy}",
                TPE2E_PASSWORD=PASSWORD,
            )
            self._say(desktop.name, f"logged in as {said[-1]['account']} (e2e-policy {policy}).")

    async def _log_out(self) -> None:
        for desktop in (self.alice, self.bob):
            await desktop.run("disconnect")

    # -- act one ----------------------------------------------------------------------------

    async def _in_the_clear(self) -> None:
        await self._log_in("off")
        file = await asyncio.to_thread(self._write_file, "postcard.txt", CLEAR_SIZE)
        await self._transfer(file, send=(), receive=())
        found, sought = await self._look(file)
        if found < sought:
            raise Failed(f"The tap saw only {found} of {sought} stretches: it is no good witness.")
        self._verdict(
            f"{found} of {sought} stretches of the file were on the wire: all of it.", "red"
        )
        await self._log_out()

    # -- act two ----------------------------------------------------------------------------

    async def _protected(self) -> None:
        await self._log_in("opportunistic")
        self._tap.forget()
        file = self._given
        if file is None:
            file = await asyncio.to_thread(self._write_file, "letter.txt", self._size)
        options = ("--require", "verified", "--sas-matches", "stdin")
        sent, received = await self._transfer(file, send=options, receive=options)
        self._what_the_server_read(file)
        found, sought = await self._look(file)
        if found:
            raise Failed(
                f"{found} of {sought} stretches of the file were on the wire in the clear!"
            )
        self._verdict(f"{found} of {sought} stretches of the file were on the wire: none.", "green")
        self._compare(file, sent, received)
        await self._log_out()

    def _compare(self, file: Path, sent: dict[str, Any], received: dict[str, Any]) -> None:
        with file.open("rb") as source:
            before = hashlib.file_digest(source, "sha256").hexdigest()
        with Path(received["path"]).open("rb") as source:
            after = hashlib.file_digest(source, "sha256").hexdigest()
        self._console.print(f"  SHA-256 at Alice's  {before}")
        self._console.print(f"  SHA-256 at Bob's    {after}")
        if before != after:
            raise Failed("The file changed on its way!")
        for side, done in (("Alice", sent), ("Bob", received)):
            if done["protection"] != "verified" or done["verified_by"] != "sas":
                raise Failed(f"{side}'s channel is not verified: {done}")
        speed = sent["bytes"] / max(sent["seconds"], 1e-9) / 1e6
        self._console.print(
            f"  {sent['bytes'] / 1e6:.1f} MB in {sent['seconds']:.2f} s: {speed:.0f} MB/s, "
            "through the tap, which keeps every byte."
        )
        self._console.print(
            f"  Protected by {sent['protocol'].upper()}: {sent['cipher_suite']}, "
            f"{sent['key_exchange']}; verified on both sides by comparing short strings."
        )

    # -- one transfer -----------------------------------------------------------------------

    async def _transfer(
        self, file: Path, *, send: tuple[str, ...], receive: tuple[str, ...]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A file from Alice to Bob; the last word of both."""
        bob = await self.bob.tpe2e(
            "receive", "--once", "--accept-all", "--dir", str(self._downloads), *receive
        )
        strings: dict[str, asyncio.Future[str]] = {
            name: asyncio.get_running_loop().create_future() for name in ("alice", "bob")
        }
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            receiving = group.create_task(self._follow(bob, "bob", strings, ready))
            await ready.wait()
            alice = await self.alice.tpe2e("send", str(file), self._the_server.jid("bob"), *send)
            sending = group.create_task(self._follow(alice, "alice", strings, ready))
        return sending.result(), receiving.result()

    async def _follow(
        self,
        command: Command,
        name: str,
        strings: dict[str, asyncio.Future[str]],
        ready: asyncio.Event,
    ) -> dict[str, Any]:
        """Tell what one side says, and compare the strings when both have theirs."""
        done: dict[str, Any] = {}
        async for event in command.events():
            match event["event"]:
                case "waiting":
                    ready.set()
                case "sas":
                    self._say(name, f"sees the short string  [bold]{event['string']}[/bold]")
                    strings[name].set_result(event["string"])
                    hers, his = [await strings[side] for side in ("alice", "bob")]
                    # This is what the two would do on the telephone.
                    same = hers == his
                    self._say(
                        name, f"hears {hers} and {his}: {'the same' if same else 'NOT THE SAME'}."
                    )
                    await command.answer("yes" if same else "no")
                case "offered" | "accepted" | "offer" | "question" | "answered" | "protection":
                    self._say(name, event["message"])
                case "error":
                    self._say(name, event["message"])
                case "done":
                    done = event
                    self._say(name, event["message"])
        await command.check()
        if not done:
            raise Failed(f"{name} did not finish.")
        return done

    # -- what the spy has -------------------------------------------------------------------

    async def _look(self, file: Path) -> tuple[int, int]:
        return await asyncio.to_thread(self._look_now, file)

    def _look_now(self, file: Path) -> tuple[int, int]:
        recordings = self._tap.recordings()
        total = sum(path.stat().st_size for path in recordings)
        if total < file.stat().st_size:
            raise Failed("The file did not go through the tap: nothing is proven.")
        started = time.monotonic()
        found, sought = stretches_on_the_wire(file, recordings, STRETCHES)
        if not sought:
            raise Failed("The file is too short to be looked for: take a longer one.")
        longest = max(recordings, key=lambda path: path.stat().st_size)
        self._say(
            "server",
            f"recorded {total / 1e6:.1f} MB in {len(recordings) // 2} connection(s); entropy "
            f"{entropy(longest):.3f} bits a byte, that of the file {entropy(file):.3f}; "
            f"searched in {time.monotonic() - started:.1f} s.",
        )
        return found, sought

    def _what_the_server_read(self, file: Path) -> None:
        notes = self._tap.notes()
        name = re.search(r"<name>([^<]*)</name>", notes)
        size = re.search(r"<size>([^<]*)</size>", notes)
        if name is None or size is None or name[1] != file.name:
            raise Failed("The server did not see the offer: it was no witness.")
        self._say(
            "server",
            f"still knows who wrote to whom and when, and of the file its name ({name[1]}) and "
            f"size ({size[1]}). That is not hidden.",
        )

    # -- small ones -------------------------------------------------------------------------

    @property
    def _the_server(self) -> Prosody:
        if self._server is None:
            raise Failed("There is no server.")
        return self._server

    def _write_file(self, name: str, size: int) -> Path:
        """A text of random words: unlike noise it can be told from what is encrypted."""
        path = self._directory / name
        with path.open("w") as file:
            left = size
            while left > 0:
                piece = os.urandom(min(left, 1_000_000) // 2 + 1).hex()[:left]
                file.write(piece)
                left -= len(piece)
        return path

    def _heading(self, text: str) -> None:
        self._console.print()
        self._console.print(Rule(text, align="left"))

    def _say(self, name: str, text: str) -> None:
        colour = COLOURS[name]
        self._console.print(f"[{colour}]{name.capitalize():>7}[/{colour}]  {text}")

    def _verdict(self, text: str, colour: str) -> None:
        self._console.print(f"  [bold {colour}]{text}[/bold {colour}]")
