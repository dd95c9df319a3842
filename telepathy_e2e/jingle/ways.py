"""Which transport comes first, and which one when that fails. One table, no I/O."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from . import ibb
from .candidates import S5B_NS
from .data_channel import SCTP_NS
from .ice import ICE_NS


class Way(StrEnum):
    """A transport of a stream."""

    SOCKS5 = "socks5"
    """XEP-0260: TCP, directly or through a proxy."""
    ICE = "ice"
    """XEP-0343: a data channel over DTLS, through whatever lets UDP through, or a relay."""
    IN_BAND = "in-band"
    """XEP-0261: through the servers; it always works, slowly."""


@dataclass(frozen=True)
class Rule:
    """When one may be offered.

    Attributes:
        roads: what the user allows has one of these (``TELEPATHY_E2E_ROADS``).
        features: the peer's service discovery lists all of these.
        assumed: offered as well to a peer of whom nothing is known.
        protected: its encryption is that of the session, so there has to be one.
    """

    way: Way
    roads: frozenset[str]
    features: frozenset[str]
    assumed: bool = True
    protected: bool = False


#: In the order in which they are tried: TCP is several times as fast as SCTP in Python, and
#: whatever passes neither goes through the servers, which others have to pay for.
TABLE: Final = (
    Rule(Way.SOCKS5, frozenset({"direct", "proxy"}), frozenset({S5B_NS})),
    Rule(Way.ICE, frozenset({"ice"}), frozenset({ICE_NS, SCTP_NS}), assumed=False, protected=True),
    Rule(Way.IN_BAND, frozenset({"in-band"}), frozenset({ibb.TRANSPORT_NS})),
)


def allowed(way: Way, roads: Collection[str], *, protected: bool) -> bool:
    """Whether it may be used at all, whoever offers it.

    Args:
        roads: as ``Account.roads``.
        protected: there is, or is going to be, an encryption agreed on by both sides.
    """
    rule = next(each for each in TABLE if each.way is way)
    return bool(rule.roads & set(roads)) and (protected or not rule.protected)


def order(
    roads: Collection[str],
    features: Collection[str] | None,
    *,
    protected: bool,
    offered: Collection[Way] = (),
    failed: Collection[Way] = (),
    first: Way | None = None,
) -> tuple[Way, ...]:
    """What to offer, one after the other.

    Args:
        features: what the peer lists; None: not known.
        offered: what the peer has offered itself.
        failed: those that have been tried.
        first: one that has worked lately where the others have not.
    """
    possible = [rule for rule in TABLE if allowed(rule.way, roads, protected=protected)]
    if features is None:
        listed = [rule for rule in possible if rule.assumed or rule.way in offered]
    else:
        lists = set(features)
        listed = [rule for rule in possible if rule.features <= lists or rule.way in offered]
    # A peer that lists none of them is asked all the same: there are such as list too little.
    chosen = listed or [rule for rule in possible if rule.assumed]
    ways = [rule.way for rule in chosen if rule.way not in failed]
    return tuple(sorted(ways, key=lambda way: way is not first))
