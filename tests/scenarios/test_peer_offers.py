"""Offers of strangers and of contacts: how they are shown, and how many there may be."""

from __future__ import annotations

import asyncio
import base64
from xml.etree.ElementTree import Element

import pytest

from tests.peer import stanzas
from tests.peer.bench import CANCELLED, REMOTE_STOPPED, Bench
from tests.peer.stanzas import FILES, HASHES
from tests.peer.transfer import Transfer
from tests.support.side import FILE_TRANSFER

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN_SIZE = 2**64 - 1
BAD_REQUEST = ("bad-request", "")
NO_ROOM = ("resource-constraint", "")

# As in jingle/registry.py and service/connection.py.
MAX_PER_STRANGER = 8
MAX_PER_PEER = 64
MAX_ENDED_CHANNELS = 256

MEGABYTE = 2**20


async def shown(bench: Bench, description: Element) -> dict[str, object]:
    """The properties of the channel that an offer makes."""
    case = await bench.offered(description=description)
    return await bench.side.get_all(case.path, FILE_TRANSFER)


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("..", None),
        (".", None),
        ("...", None),
        ("", None),
        ("/", None),
        ("C:\\autoexec.bat", "C:_autoexec.bat"),
        ("..\\..\\x", "_.._x"),
        (".bashrc", None),
        ("-rf", None),
        ("cat\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", None),
        ("tab\tnew\nline", None),
        ("line\N{LINE SEPARATOR}line", None),
        ("n" * 255, "n" * 255),
        ("\N{GRINNING FACE}" * 255, None),
        ("a/b" * 85, None),
        ("CON", None),
        ("  spaces  ", "spaces"),
    ],
)
async def test_a_name_is_shown_as_one_that_is_safe(
    bench: Bench, name: str, expected: str | None
) -> None:
    got = str((await shown(bench, stanzas.description(name, 5)))["Filename"])
    if expected is not None:
        assert got == expected
    assert got
    assert got.isprintable()
    assert "/" not in got
    assert "\\" not in got
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in got
    assert not got.startswith(".")
    assert len(got.encode()) <= 255


async def test_no_name_at_all_is_shown_as_some_name(bench: Bench) -> None:
    assert (await shown(bench, stanzas.description(None, 5)))["Filename"]


async def test_a_name_without_end_is_refused_or_cut(bench: Bench) -> None:
    transfer = Transfer(bench.bob.session(bench.jid))
    answer = await transfer.offer(stanzas.description("n" * 100_000, 5))
    if answer == ("", ""):
        path = await bench.channel()
        got = await bench.side.get(path, FILE_TRANSFER, "Filename")
        assert len(got.encode()) <= 255
    else:
        assert answer == BAD_REQUEST
        assert bench.incoming() == []


# -- sizes -----------------------------------------------------------------------------------


async def test_an_enormous_file_can_be_offered(bench: Bench) -> None:
    """Nothing is set aside for what is only announced."""
    before = bench.memory()
    case = await bench.receives(description=stanzas.description("all of it", 10**18))
    assert await bench.side.get(case.path, FILE_TRANSFER, "Size") == 10**18
    stream = await case.transfer.protect()
    await stream.write(b"a beginning")
    assert bench.memory() - before < 8 * MEGABYTE
    await case.transfer.session.terminate("cancel")
    await bench.failed(case, REMOTE_STOPPED)


@pytest.mark.parametrize(
    "size",
    ["-1", "1.5", "1e3", "0x10", "", "many", "9" * 400, str(2**63), "\N{ARABIC-INDIC DIGIT ONE}"],
)
async def test_a_size_that_is_none_is_refused(bench: Bench, size: str) -> None:
    transfer = Transfer(bench.bob.session(bench.jid))
    assert await transfer.offer(stanzas.description(size=size)) == BAD_REQUEST
    assert bench.incoming() == []


@pytest.mark.parametrize("size", ["5", " 5\n", "0005"])
async def test_a_size_is_shown_as_it_is(bench: Bench, size: str) -> None:
    assert (await shown(bench, stanzas.description(size=size)))["Size"] == 5


async def test_an_unknown_size_is_shown_as_unknown(bench: Bench) -> None:
    assert (await shown(bench, stanzas.description(size=None)))["Size"] == UNKNOWN_SIZE


# -- the rest of an offer --------------------------------------------------------------------


async def test_a_long_description_is_bounded(bench: Bench) -> None:
    transfer = Transfer(bench.bob.session(bench.jid))
    answer = await transfer.offer(stanzas.description(size=5, desc="word " * 20_000))
    if answer == ("", ""):
        got = await bench.side.get(await bench.channel(), FILE_TRANSFER, "Description")
        assert len(got) <= 8192
    else:
        assert answer == BAD_REQUEST


async def test_a_description_is_readable(bench: Bench) -> None:
    text = "first\nsecond\N{RIGHT-TO-LEFT OVERRIDE}third\tfourth"
    got = str((await shown(bench, stanzas.description(size=5, desc=text)))["Description"])
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in got
    assert "\n" not in got


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("1969-07-21T02:56:15Z", -14_159_025),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
        ("0001-01-01T00:00:00Z", -62_135_596_800),
    ],
)
async def test_a_date_of_any_time_is_shown(bench: Bench, date: str, seconds: int) -> None:
    element = Element(f"{{{FILES}}}date")
    element.text = date
    assert (await shown(bench, stanzas.description(size=5, more=[element])))["Date"] == seconds


@pytest.mark.parametrize("date", ["yesterday", "2026-13-01T00:00:00Z", "2026-01-01", ""])
async def test_a_date_that_is_none_is_refused_or_left_out(bench: Bench, date: str) -> None:
    element = Element(f"{{{FILES}}}date")
    element.text = date
    transfer = Transfer(bench.bob.session(bench.jid))
    answer = await transfer.offer(stanzas.description(size=5, more=[element]))
    assert answer in (("", ""), BAD_REQUEST)


@pytest.mark.parametrize(
    ("algo", "text"),
    [
        ("sha-256", "not base64"),
        ("sha-256", base64.b64encode(b"short").decode()),
        ("sha-256", "A" * 100_000),
        ("", base64.b64encode(bytes(32)).decode()),
    ],
)
async def test_a_hash_that_is_none_is_refused(bench: Bench, algo: str, text: str) -> None:
    digest = Element(f"{{{HASHES}}}hash", {"algo": algo})
    digest.text = text
    transfer = Transfer(bench.bob.session(bench.jid))
    answer = await transfer.offer(stanzas.description(size=5, more=[digest]))
    assert answer == BAD_REQUEST


async def test_an_unknown_hash_is_not_shown_as_one(bench: Bench) -> None:
    digest = Element(f"{{{HASHES}}}hash", {"algo": "tiger"})
    digest.text = base64.b64encode(bytes(24)).decode()
    properties = await shown(bench, stanzas.description(size=5, more=[digest]))
    assert (properties["ContentHashType"], properties["ContentHash"]) == (0, "")


# -- many of them ----------------------------------------------------------------------------


async def test_a_strangers_flood_is_bounded_and_contacts_get_through(bench: Bench) -> None:
    stranger = await bench.stranger()
    before = bench.memory()
    transfers = [Transfer(stranger.session(bench.jid), xtls=False) for _ in range(200)]
    answers = await asyncio.gather(
        *(
            each.session.send(
                "session-initiate",
                each.content(stanzas.description(f"{n}", 5), stanzas.s5b(each.stream_id)),
            )
            for n, each in enumerate(transfers)
        )
    )
    taken = [each for each, answer in zip(transfers, answers, strict=True) if answer == ("", "")]
    assert len(taken) == MAX_PER_STRANGER
    assert {answer for answer in answers if answer != ("", "")} == {NO_ROOM}
    # An offer is acknowledged before anything is done about it.
    await bench.side.signal(lambda _: len(bench.incoming()) >= MAX_PER_STRANGER)
    flooded = await bench.channels()
    assert len(flooded) == MAX_PER_STRANGER
    assert len(await bench.objects()) == MAX_PER_STRANGER
    assert bench.memory() - before < 16 * MEGABYTE

    await bench.honest_transfer()

    for each in taken:
        assert await each.session.terminate() == ("", "")
    for path in flooded:
        assert (await bench.side.state(path, CANCELLED))[0] == CANCELLED
    # A place that became free is a place.
    last = Transfer(stranger.session(bench.jid))
    assert await last.offer(stanzas.description()) == ("", "")


async def test_a_contact_may_offer_more_but_not_without_end(bench: Bench) -> None:
    transfers = [Transfer(bench.bob.session(bench.jid), xtls=False) for _ in range(100)]
    answers = await asyncio.gather(
        *(
            each.session.send(
                "session-initiate",
                each.content(stanzas.description("x", 5), stanzas.s5b(each.stream_id)),
            )
            for each in transfers
        )
    )
    taken = [each for each, answer in zip(transfers, answers, strict=True) if answer == ("", "")]
    assert len(taken) == MAX_PER_PEER
    assert {answer for answer in answers if answer != ("", "")} == {NO_ROOM}
    for each in taken:
        assert await each.session.terminate() == ("", "")


async def test_the_bound_counts_a_person_and_not_a_resource(bench: Bench) -> None:
    first = await bench.stranger()
    second = await bench.peer(stanzas.bare(first.jid).partition("@")[0], resource="second")
    answers = []
    for n in range(MAX_PER_STRANGER + 2):
        transfer = Transfer((first, second)[n % 2].session(bench.jid), xtls=False)
        answers.append(await transfer.offer(stanzas.description("x", 5)))
    assert answers.count(("", "")) == MAX_PER_STRANGER


async def test_offers_that_are_taken_back_leave_a_bounded_number_of_channels(
    bench: Bench,
) -> None:
    """Nobody closes the channels here, so only the bound keeps them from growing."""
    before = bench.memory()
    for start in range(0, 600, 50):
        transfers = [Transfer(bench.bob.session(bench.jid), xtls=False) for _ in range(50)]
        for each in transfers:
            content = each.content(stanzas.description("x", 5), stanzas.s5b(each.stream_id))
            each.session.post("session-initiate", content)
            last = each.session.post("session-terminate", stanzas.reason("cancel"))
        await last
        assert len(await bench.channels()) <= MAX_ENDED_CHANNELS, start
    assert len(await bench.channels()) == MAX_ENDED_CHANNELS
    assert len(bench.incoming()) == 600
    assert bench.memory() - before < 24 * MEGABYTE


async def test_a_flood_whose_sender_acknowledges_nothing_costs_little(bench: Bench) -> None:
    """Each offer is refused by a session-terminate that waits for its acknowledgement."""
    stranger = await bench.stranger()
    stranger.answers = lambda iq: False
    before = bench.memory()
    for number in range(3000):
        content = stanzas.content(Element("{urn:example:chess}description"), stanzas.s5b("s"))
        session = stranger.session(bench.jid, f"flood{number}")
        last = session.post("session-initiate", content)
        if number % 100 == 99:
            await last
    grown = bench.memory() - before
    print(grown)
    assert bench.incoming() == []
    assert grown < 16 * MEGABYTE
