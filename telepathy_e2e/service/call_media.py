"""Where sound and pictures of a call come from, and where they go: the user's choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.service.call_words import MediaType

# Account parameters, and what they are where nobody has chosen: the desktop's own devices.
PARAMETERS: Final[Mapping[str, str]] = {
    "call-audio-source": "pulse",
    "call-audio-sink": "pulse",
    "call-video-source": "v4l2",
    "call-video-sink": "null",
}

# Forms of ``media.sources`` and ``media.sinks``, which are not imported before the first call.
SOURCES: Final = {
    MediaType.AUDIO: ("tone", "silence", "file", "pulse", "alsa", "unix", "null"),
    MediaType.VIDEO: ("test-pattern", "file", "v4l2", "unix", "null"),
}
SINKS: Final = {
    MediaType.AUDIO: ("null", "file", "pulse", "alsa", "unix"),
    MediaType.VIDEO: ("null", "file", "unix"),
}

# A path, with room.
MAX_CHOICE: Final = 4352


class Wishes(Protocol):
    """What the user wants of one content."""

    @property
    def sends(self) -> bool:
        """It may be sent."""

    @property
    def muted(self) -> bool:
        """Silence or black is sent in its place."""

    @property
    def volumes(self) -> tuple[int, int]:
        """Of what is sent and of what is played: see ``media.volume``."""


class Choice(Protocol):
    """What a call asks about its media."""

    def source(self, kind: MediaType) -> str: ...

    def sink(self, kind: MediaType) -> str: ...

    def wishes(self, key: tuple[str, str]) -> Wishes | None:
        """Of a Jingle content; None: it is gone, and nothing is sent."""


class MediaChoice:
    """See ``Choice``.

    Args:
        parameters: of the account.
        wishes: see ``Choice``.
    """

    def __init__(
        self,
        parameters: Mapping[str, object],
        wishes: Callable[[tuple[str, str]], Wishes | None],
    ) -> None:
        self._chosen = {
            name: str(parameters.get(name) or default) for name, default in PARAMETERS.items()
        }
        self._wishes = wishes

    def source(self, kind: MediaType) -> str:
        return self._chosen[f"call-{kind.word}-source"]

    def sink(self, kind: MediaType) -> str:
        return self._chosen[f"call-{kind.word}-sink"]

    def wishes(self, key: tuple[str, str]) -> Wishes | None:
        return self._wishes(key)

    def choose(self, name: str, value: str) -> MediaType:
        """Another source or sink.

        Args:
            name: of ``PARAMETERS``.
            value: see ``media.sources`` and ``media.sinks``.
        Returns:
            Of which medium.
        Raises:
            InvalidArgument: no such form.
        """
        check(name, value)
        self._chosen[name] = value
        return MediaType.AUDIO if "audio" in name else MediaType.VIDEO


def check(name: str, value: str) -> None:
    """That a source or sink has a form that there is; whether it can be opened is seen later.

    Raises:
        InvalidArgument: it has not.
    """
    kind = MediaType.AUDIO if "audio" in name else MediaType.VIDEO
    forms = (SOURCES if name.endswith("source") else SINKS)[kind]
    if value.partition(":")[0] not in forms or len(value) > MAX_CHOICE or "\0" in value:
        raise InvalidArgument(f"{name} is one of {', '.join(forms)}, some with :WHICH behind it")
