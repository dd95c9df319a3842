"""From an agreed session to a connected stream: SOCKS5 first, in-band when that fails.

``Road`` is told what the peer says about transports and gives, from ``connect``, one stream. Which
candidate, which proxy, whether in-band: the application does not know.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected, E2EError, PeerError
from telepathy_e2e.jingle import ibb, s5b
from telepathy_e2e.jingle import session as jingle
from telepathy_e2e.jingle.s5b import Candidate, Socks5Negotiation
from telepathy_e2e.net import socks5
from telepathy_e2e.net.listener import Expectation
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.role import Role
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.inband import InBandStream
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError

log = logging.getLogger(__name__)

# A candidate that can be reached answers in a few round trips; a firewall that drops packets
# says nothing at all, and the next candidate waits.
CANDIDATE_TIMEOUT: Final = 5.0

# All of SOCKS5: both sides' candidates one after the other, then the proxy.
SOCKS5_TIMEOUT: Final = 30.0

# The other side may still be trying its candidates when ours have failed.
REPLACE_TIMEOUT: Final = 60.0


class NoRoad(E2EError):
    """No transport could be brought up."""
