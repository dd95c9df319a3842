"""The roads of a call: one certificate for all of them, and other ways; without media."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from telepathy_e2e.errors import NotAvailable, SecurityError
from telepathy_e2e.jingle import ice
from telepathy_e2e.media import events as media
from telepathy_e2e.role import Role
from telepathy_e2e.service.call_roads import Roads
from telepathy_e2e.tasks import TaskOwner

from .dialogue_support import Engine

HIS, OTHER = b"\1" * 32, b"\2" * 32


def transport(
    ufrag: str = "ufrag", *, digest: bytes | None = HIS, setup: str | None = "active"
) -> ice.Transport:
    fingerprints = () if digest is None else (ice.DtlsFingerprint("sha-256", digest, setup),)
    return ice.Transport(ufrag, ufrag.ljust(22, "x"), (), fingerprints)


class Side:
    """The caller's roads ``voice`` and ``face``, which are not bundled."""

    def __init__(self, tasks: TaskOwner) -> None:
        self.told: list[tuple[str, ice.Transport]] = []
        self.wanted: list[str] = []
        self.roads = Roads(Role.INITIATOR, tasks, lambda *told: self.told.append(told))
        self.engine = Engine(controlling=True, credentials="we", servers=(), events=self._event)

    def _event(self, event: media.MediaEvent) -> None:
        if isinstance(event, media.RestartWanted):
            self.wanted.append(event.road)
            self.roads.restart(event.road)
        else:
            assert isinstance(event, media.LocalCandidates | media.GatheringDone)
            self.roads.gathered(event)

    async def open(self) -> None:
        self.roads.begin(self.engine)  # type: ignore[arg-type]
        self.roads.bundled([], "voice")
        await self.roads.open(("voice", "face"))

    def start(self) -> None:
        self.roads.take("voice", transport())
        self.roads.take("face", transport("face"))
        self.roads.start(("voice", "face"), strict=True)


@pytest_asyncio.fixture
async def side() -> AsyncIterator[Side]:
    tasks = TaskOwner("roads")
    side = Side(tasks)
    await side.open()
    await asyncio.sleep(0)
    yield side
    await tasks.close()


# -- one certificate ------------------------------------------------------------------------------


async def test_the_second_content_of_an_answer_has_the_certificate_of_the_first(side: Side) -> None:
    side.roads.take("voice", transport())
    with pytest.raises(SecurityError):
        side.roads.take("face", transport(digest=OTHER))
    side.roads.take("face", transport("face"))
    assert {each.digest for each in side.roads.fingerprints} == {HIS}


async def test_a_second_fingerprint_for_one_content_alone_is_another_certificate(
    side: Side,
) -> None:
    side.roads.take("voice", transport())
    both = (*transport().fingerprints, *transport(digest=OTHER).fingerprints)
    with pytest.raises(SecurityError):
        side.roads.take("face", replace(transport(), fingerprints=both))


async def test_a_content_without_one_has_that_of_the_others(side: Side) -> None:
    side.roads.take("voice", transport())
    side.roads.take("face", transport("face", digest=None))
    side.roads.start(("voice", "face"), strict=True)
    assert side.engine.started == {"voice": "server", "face": "server"}


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("road", ["voice", "face"])
async def test_what_comes_later_for_one_content_has_the_certificate_of_all(
    side: Side, started: bool, road: str
) -> None:
    if started:
        side.start()
    else:
        side.roads.take("voice", transport())
    with pytest.raises(SecurityError):
        side.roads.info(road, transport(road, digest=OTHER))
    for digest in (HIS, None):
        side.roads.info(road, transport(road, digest=digest))


# -- other ways -----------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", ["active", "actpass", None])
async def test_another_way_keeps_our_part_in_the_handshake(side: Side, setup: str | None) -> None:
    side.start()
    told = transport("other", setup=setup)
    answer = side.roads.restarted("voice", told)
    assert side.engine.roads == {"voice": 1, "face": 0}
    assert [each.setup for each in answer.fingerprints] == ["passive"]
    assert answer.ufrag != side.engine.local_transport("face").ufrag
    assert side.engine.theirs[-1] == ("voice", told)
    assert side.wanted == ["voice"]


async def test_new_credentials_begin_ice_anew_and_those_that_are_known_do_not(side: Side) -> None:
    side.start()
    side.roads.info("voice", transport(digest=None))
    assert side.wanted == []
    side.roads.info("voice", transport("other", digest=None))
    assert side.wanted == ["voice"]
    # stanza.js names the fragment alone, with each candidate.
    side.roads.info("voice", ice.Transport("other", "", (), (), True))
    _, told = side.engine.theirs[-1]
    assert (told.ufrag, told.pwd) == ("other", transport("other").pwd)
    assert told.gathering_complete
    assert side.wanted == ["voice"]
    # Half of them is none.
    before = len(side.engine.theirs)
    side.roads.info("voice", ice.Transport("", "x" * 22))
    side.roads.info("voice", ice.Transport("third", ""))
    assert len(side.engine.theirs) == before


async def test_of_contents_that_share_a_road_the_first_speaks_for_it(side: Side) -> None:
    """The others may tell of a transport that is not used, with credentials of its own."""
    side.start()
    before = len(side.engine.theirs)
    side.roads.info("voice", transport("other", digest=None), first=False)
    assert side.wanted == []
    assert len(side.engine.theirs) == before
    side.roads.info("voice", transport(digest=None), first=False)
    assert len(side.engine.theirs) == before + 1


async def test_ours_are_told_without_candidates_and_once_until_they_are_answered(
    side: Side,
) -> None:
    side.start()
    assert (own := side.roads.renew("voice")) is not None
    assert own.ufrag == side.engine.local_transport("voice").ufrag
    assert own.pwd
    assert (own.candidates, own.fingerprints, own.gathering_complete) == ((), (), False)
    assert side.roads.renew("voice") is None
    side.roads.info("voice", transport(digest=None))  # he had not heard of it
    assert side.roads.renew("voice") is None
    side.roads.info("voice", transport("other", digest=None))
    assert side.wanted == []
    assert side.roads.renew("voice") is not None
    side.roads.not_renewed("voice")
    assert side.roads.renew("voice") is not None
    assert side.engine.roads == {"voice": 3, "face": 0}


async def test_another_way_with_another_certificate_is_a_matter_of_security(side: Side) -> None:
    side.start()
    with pytest.raises(SecurityError):
        side.roads.restarted("face", transport("other", digest=OTHER))
    assert side.engine.roads == {"voice": 0, "face": 0}


@pytest.mark.parametrize("setup", ["passive", "holdconn"])
async def test_another_association_is_not_made(side: Side, setup: str) -> None:
    side.start()
    with pytest.raises(NotAvailable):
        side.roads.restarted("face", transport("other", setup=setup))
    with pytest.raises(NotAvailable):
        side.roads.info("face", transport("other", setup=setup))
    assert side.wanted == []
    assert side.engine.roads == {"voice": 0, "face": 0}


async def test_what_never_began_does_not_begin_anew(side: Side) -> None:
    with pytest.raises(NotAvailable):
        side.roads.restarted("voice", transport("other"))
    with pytest.raises(NotAvailable):
        side.roads.renew("voice")
