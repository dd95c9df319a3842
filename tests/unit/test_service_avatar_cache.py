"""Pictures on disk."""

from __future__ import annotations

import os
from pathlib import Path

from telepathy_e2e.service.avatar_cache import BLOCK, AvatarCache
from telepathy_e2e.xmpp.avatar import token_of


def put(cache: AvatarCache, data: bytes) -> bytes:
    token = token_of(data)
    cache.put(token, data)
    return token


def test_a_picture_is_found_again_by_whoever_comes_later(tmp_path: Path) -> None:
    token = put(AvatarCache(tmp_path / "cache"), b"picture")
    assert AvatarCache(tmp_path / "cache").get(token) == b"picture"
    path = tmp_path / "cache" / "avatars" / token.hex()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_holds_something_else_is_removed(tmp_path: Path) -> None:
    cache = AvatarCache(tmp_path)
    token = put(cache, b"picture")
    path = tmp_path / "avatars" / token.hex()
    path.write_bytes(b"other")
    assert cache.get(token) is None
    assert not path.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    cache = AvatarCache(tmp_path)
    token = put(cache, b"picture")
    path = tmp_path / "avatars" / token.hex()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.get(token) is None


def test_what_is_not_there_is_not_there(tmp_path: Path) -> None:
    assert AvatarCache(tmp_path / "none").get(bytes(20)) is None


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "avatars").write_text("a file")
    cache = AvatarCache(tmp_path)
    assert cache.get(put(cache, b"picture")) is None


def test_the_pictures_that_were_not_looked_at_go_first(tmp_path: Path) -> None:
    cache = AvatarCache(tmp_path, total=8 * BLOCK)
    tokens = [put(cache, bytes([n])) for n in range(8)]
    for age, token in enumerate(tokens):
        os.utime(tmp_path / "avatars" / token.hex(), (1_000 + age, 1_000 + age))
    assert cache.get(tokens[0]) is not None  # looked at: now it is the newest
    last = put(cache, b"one more")
    kept = {path.name for path in (tmp_path / "avatars").iterdir()}
    assert kept == {each.hex() for each in [tokens[0], *tokens[4:], last]}


def test_the_bound_holds_over_what_others_left_there(tmp_path: Path) -> None:
    first = AvatarCache(tmp_path, total=1000 * BLOCK)
    for number in range(20):
        put(first, bytes([number]))
    put(AvatarCache(tmp_path, total=4 * BLOCK), b"one more")
    assert len(list((tmp_path / "avatars").iterdir())) <= 4
