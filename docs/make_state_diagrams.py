"""Draws the machines in ``docs/states`` from their tables: run it after a table has changed.

``dot -Tsvg -O docs/states/*.dot`` makes pictures of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from telepathy_e2e.jingle.stanzas import Action
from telepathy_e2e.jingle.states import (
    CALL_MOVES,
    CONTENT_MOVES,
    MOVES,
    REFUSALS,
    TRANSPORT_MOVES,
    ContentState,
    State,
    TransportState,
)

STATES = Path(__file__).parent / "states"

_S = TypeVar("_S", bound=StrEnum)
_W = TypeVar("_W", bound=StrEnum)

# Arrows: (from, to, label).
Arrow = tuple[StrEnum, StrEnum, str]


def diagram(name: str, start: StrEnum, states: Iterable[StrEnum], arrows: Iterable[Arrow]) -> str:
    """Graphviz text: one box a state, one arrow for all moves between the same two states."""
    labels: defaultdict[tuple[StrEnum, StrEnum], list[str]] = defaultdict(list)
    for before, after, label in arrows:
        labels[(before, after)].append(label)
    lines = [
        f'digraph "{name}" {{',
        "    node [shape=box, style=rounded, fontname=sans];",
        "    edge [fontname=sans, fontsize=10];",
        "    begin [shape=point];",
    ]
    lines += [f'    "{state.value}";' for state in states]
    lines.append(f'    begin -> "{start.value}";')
    for (before, after), texts in sorted(labels.items()):
        label = "\\n".join(sorted(texts))
        lines.append(f'    "{before.value}" -> "{after.value}" [label="{label}"];')
    return "\n".join([*lines, "}", ""])


def session() -> str:
    """The session's machine."""
    return diagram("session", State.NEW, State, [*_arrows(MOVES), *_refusals()])


def call() -> str:
    """The machine of a session that is a call; the last content's going ends it, too."""
    return diagram("call", State.NEW, State, [*_arrows(CALL_MOVES), *_refusals()])


def content() -> str:
    """The machine of one content of a call."""
    return diagram("content", ContentState.PENDING, ContentState, _arrows(CONTENT_MOVES))


def transport() -> str:
    """The machine of transport-replace."""
    return diagram("transport", TransportState.AGREED, TransportState, _arrows(TRANSPORT_MOVES))


def _refusals() -> list[Arrow]:
    return [
        (before, after, f"{action.value} refused") for (before, action), after in REFUSALS.items()
    ]


def _arrows(moves: Mapping[tuple[_S, _W, Action], _S]) -> list[Arrow]:
    """One label where both sides may make the same move."""
    senders: defaultdict[tuple[_S, _S, Action], list[str]] = defaultdict(list)
    for (before, sender, action), after in moves.items():
        senders[(before, after, action)].append(sender.value)
    return [
        (before, after, f"{' or '.join(sorted(who))}: {action.value}")
        for (before, after, action), who in senders.items()
    ]


DIAGRAMS = {
    "jingle-call.dot": call,
    "jingle-content.dot": content,
    "jingle-session.dot": session,
    "jingle-transport.dot": transport,
}


def main() -> None:
    STATES.mkdir(exist_ok=True)
    for file, draw in DIAGRAMS.items():
        (STATES / file).write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
