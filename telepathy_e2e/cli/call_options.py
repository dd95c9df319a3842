"""The command lines of ``tpe2e call``, ``answer`` and ``hangup``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

_MEDIA: Final = (
    ("--audio-source", "what is heard there: pulse, file:speech.wav, tone, silence, …"),
    ("--audio-sink", "where what they say goes: pulse, file:call.ogg, null, …"),
    ("--video-source", "what is seen there: v4l2:/dev/video0, test-pattern, …"),
    ("--video-sink", "where their pictures go: file:call.mkv, null, …"),
)


def add_call(parser: argparse.ArgumentParser, seconds: Callable[[str], float]) -> None:
    """Options of ``call``; ``seconds`` reads a duration."""
    parser.add_argument("jid", metavar="JID", help="the contact, such as bob@example.org")
    parser.add_argument("--video", action="store_true", help="with pictures")
    _add_talk(parser, seconds)


def add_answer(parser: argparse.ArgumentParser, seconds: Callable[[str], float]) -> None:
    """Options of ``answer``."""
    parser.add_argument(
        "jid", metavar="JID", nargs="?", help="take the calls of this contact, without asking"
    )
    parser.add_argument("--any", action="store_true", help="take every call without asking")
    parser.add_argument("--once", action="store_true", help="end after the first call")
    parser.add_argument("--reject", action="store_true", help="decline instead")
    _add_talk(parser, seconds)


def add_hangup(parser: argparse.ArgumentParser) -> None:
    """Options of ``hangup``."""
    parser.add_argument("jid", metavar="JID", nargs="?", help="which call, if there are several")


def _add_talk(parser: argparse.ArgumentParser, seconds: Callable[[str], float]) -> None:
    parser.add_argument(
        "--seconds", type=seconds, metavar="N", help="hang up after talking for so long"
    )
    parser.add_argument("--mute", action="store_true", help="begin muted")
    parser.add_argument("--verify", action="store_true", help="verify the contact while you talk")
    parser.add_argument(
        "--require-verified",
        dest="require",
        action="store_const",
        const="verified",
        help="nothing is heard or played before the contact is verified (exit code 3)",
    )
    media = parser.add_argument_group("sound and pictures (else as the account says)")
    for option, text in _MEDIA:
        media.add_argument(option, metavar="WHICH", help=text)
