"""The contact list on disk: nobody else's to read, and forgotten when in doubt."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telepathy_e2e.xmpp import roster_cache as module
from telepathy_e2e.xmpp.roster import Roster, RosterItem
from telepathy_e2e.xmpp.roster_cache import RosterCache, directory

ME = "me@example.test"


def roster() -> Roster:
    found = Roster()
    found.contacts["a@x"] = RosterItem("A & <b>", "both", ("F\n", "G"), asked=True)
    return found


def cache(path: Path, jid: str = ME) -> RosterCache:
    return RosterCache(path, jid)


def filled(path: Path) -> RosterCache:
    found = cache(path)
    found.write("v1", roster().element())
    return found


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    cached = filled(tmp_path).read()
    assert cached is not None
    assert cached.version == "v1"
    again = Roster()
    list(again.load(cached.query, 10))
    assert again.contacts == roster().contacts


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = filled(tmp_path / "new" / "caches").path
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_another_account_has_another_file(tmp_path: Path) -> None:
    filled(tmp_path)
    other = cache(tmp_path, "you@example.test")
    assert other.read() is None
    other.path.write_bytes(cache(tmp_path).path.read_bytes())
    other.path.chmod(0o600)
    assert other.read() is None


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o606])
def test_a_file_that_others_could_reach_is_not_believed(tmp_path: Path, mode: int) -> None:
    found = filled(tmp_path)
    found.path.chmod(mode)
    assert found.read() is None
    assert not found.path.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    found = filled(tmp_path)
    aside = found.path.rename(tmp_path / "elsewhere")
    found.path.symlink_to(aside)
    assert found.read() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(0, 400), st.integers(1, 255))
def test_a_damaged_file_is_dropped(tmp_path: Path, position: int, change: int) -> None:
    found = filled(tmp_path)
    data = bytearray(found.path.read_bytes())
    data[position % len(data)] ^= change
    found.path.write_bytes(data)
    assert found.read() is None
    assert not found.path.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_survived(tmp_path: Path, data: bytes) -> None:
    found = filled(tmp_path)
    found.path.write_bytes(data)
    assert found.read() is None


def test_a_list_without_a_version_is_not_kept(tmp_path: Path) -> None:
    found = filled(tmp_path)
    found.write("", roster().element())
    assert not found.path.exists()


def test_the_file_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = filled(tmp_path).path.stat().st_size
    monkeypatch.setattr(module, "MAX_FILE", size)
    assert filled(tmp_path).read() is not None
    monkeypatch.setattr(module, "MAX_FILE", size - 1)
    assert cache(tmp_path).read() is None
    assert not filled(tmp_path).path.exists()


def test_a_version_that_is_too_long_is_none(tmp_path: Path) -> None:
    found = filled(tmp_path)
    found.write("v" * (module.MAX_VERSION + 1), Element("x"))
    assert not found.path.exists()


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert filled(tmp_path / "file").read() is None


def test_where_caches_are() -> None:
    assert directory({"XDG_CACHE_HOME": "/c"}) == Path("/c/telepathy-e2e")
    assert directory({"XDG_CACHE_HOME": "c", "HOME": "/h"}) == Path("/h/.cache/telepathy-e2e")
