"""Entry of ``make demo``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import traceback
from pathlib import Path

from rich.console import Console

from demo import needs
from demo.desktop import Failed
from telepathy_e2e.cli.together import plain

# Bytes of the file that is made on the spot.
DEFAULT_MEGABYTES = 100


async def play(console: Console, file: Path | None, size: int) -> int:
    """Play, clean up, and say how it went; the exit code."""
    from demo.story import Demo

    demo = Demo(console, file, size)
    try:
        await demo.play()
    except (Failed, OSError, AssertionError, BaseExceptionGroup) as failed:
        error = plain(failed)
        console.print(f"\n[bold red]It went wrong:[/bold red] {error}", highlight=False)
        for desktop in (demo.alice, demo.bob):
            if desktop.log.exists():
                tail = desktop.log.read_text(errors="replace").splitlines()[-20:]
                console.print(f"\nThe end of {desktop.name}'s log:", highlight=False)
                console.print("\n".join(tail), highlight=False, markup=False)
        if not isinstance(error, Failed):
            traceback.print_exception(error)
        return 1
    finally:
        await demo.close()
    console.print("\n[bold green]Everything is as it should be.[/bold green]\n")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--file", type=Path, help="the file to send (a text of random words)")
    parser.add_argument(
        "--megabytes", type=int, default=DEFAULT_MEGABYTES, help="its size (%(default)s)"
    )
    arguments = parser.parse_args()
    file: Path | None = arguments.file
    if file is not None and not file.is_file():
        print(f"{file} is not a file.", file=sys.stderr)
        return 2
    if not needs.provide():
        return 2
    try:
        return asyncio.run(
            play(Console(highlight=False, soft_wrap=True), file, arguments.megabytes * 1_000_000)
        )
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
