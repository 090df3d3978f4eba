"""The token's file may change under a running program."""

from __future__ import annotations

from pathlib import Path

import pytest

from allocator.providers.credential import CHECK_SECONDS, CredentialError, FixedToken, TokenFile


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class World:
    def __init__(self, path: Path) -> None:
        self.path, self.clock, self.reports = path, Clock(), list[str]()
        path.write_text("first\n")
        self.file = TokenFile(path, report=self.reports.append, monotonic=self.clock)

    def later(self) -> str:
        self.clock.seconds += CHECK_SECONDS
        return self.file.token()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "token")


def test_a_changed_file_is_read_within_a_second(world: World) -> None:
    first = world.file.token()
    assert first == "first"
    world.path.write_text("second-token")
    assert world.file.token() is first, "looked at more often than once a second"
    assert world.later() == "second-token"
    assert world.later() is world.later(), "an unchanged token must stay the same object"


def test_a_file_replaced_by_a_rename_is_read(world: World) -> None:
    fresh = world.path.with_name("fresh")
    fresh.write_text("other\n")
    fresh.replace(world.path)
    assert world.later() == "other"
    assert world.reports == []


@pytest.mark.parametrize("content", ["", " \n", "two words", "Bearer x", "a\nb", "ключ", "x" * 20_000])
def test_a_file_without_a_token_keeps_the_last_one_and_says_so_once(world: World, content: str) -> None:
    world.path.write_text(content)
    assert [world.later(), world.later()] == ["first", "first"]
    assert len(world.reports) == 1
    assert "gameye.token_file" in world.reports[0]
    world.path.write_text("mended")
    assert world.later() == "mended"


def test_a_file_that_vanished_is_reported_again_after_it_was_back(world: World) -> None:
    world.path.unlink()
    assert [world.later(), world.later()] == ["first", "first"]
    assert len(world.reports) == 1
    world.path.write_text("back")
    assert world.later() == "back"
    world.path.unlink()
    assert world.later() == "back"
    assert len(world.reports) == 2


def test_no_token_at_the_start_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match=r"gameye\.token_file"):
        TokenFile(tmp_path / "absent")
    with pytest.raises(CredentialError, match=r"gameye\.token is empty"):
        FixedToken(" ")
    with pytest.raises(CredentialError) as raised:
        FixedToken("se cret")
    assert "cret" not in str(raised.value)


def test_no_repr_shows_a_token(world: World) -> None:
    assert "first" not in repr(world.file)
    assert "secret" not in repr(FixedToken("secret"))
