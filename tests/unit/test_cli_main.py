import json
from pathlib import Path

import pytest

from telepathy_e2e.cli import main as module
from telepathy_e2e.cli.exits import UsageError
from telepathy_e2e.cli.main import answers_from, build_parser, main


def parse(*words: str) -> object:
    return answers_from(build_parser().parse_args(list(words)))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["send", "file"],
        ["send", "file", "bob"],
        ["send", "file", "bob@example.org", "--require", "magic"],
        ["connect", "alice"],
        ["connect", "alice@example.org", "--port", "0"],
        ["connect", "alice@example.org", "--port", "x"],
        ["connect", "alice@example.org", "--timeout", "never"],
        ["verify", "--sas-matches", "maybe"],
        ["tube"],
        ["tube", "offer", "bob@example.org"],
        ["tube", "accept", "--listen", "80", "--unix", "here"],
        ["forward", "8080", "bob@example.org"],
    ],
)
def test_bad_input_is_answered_with_one_sentence_and_exit_code_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tpe2e: ")
    assert captured.err.count("\n") == 1


def test_bad_input_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["code"] == 2
    assert captured.err == ""


@pytest.mark.parametrize(
    "command",
    [
        *("answer", "call", "connect", "disconnect", "hangup", "receive", "send", "status"),
        *("forward", "trust", "tube", "verify"),
    ],
)
def test_every_command_has_help_with_the_exit_codes_and_json(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert "exit codes:" in text
    assert "--json" in text


def test_contradictions_are_refused() -> None:
    for words in (
        ("send", "f", "b@x", "--yes", "--on-unverified", "reject"),
        ("send", "f", "b@x", "--require", "verified", "--yes"),
        ("receive", "--require", "verified", "--on-unverified", "proceed"),
        ("call", "b@x", "--require-verified", "--on-unverified", "proceed"),
        ("tube", "offer", "b@x", "http", "80", "--require", "verified", "--yes"),
        ("forward", "80", "b@x", "http", "--require", "verified", "--on-unverified", "proceed"),
        ("verify", "--sas-matches", "yes", "--fingerprint", "00" * 32),
    ):
        with pytest.raises(UsageError, match=r"contradict|choose"):
            parse(*words)


def test_yes_means_to_go_on_unverified() -> None:
    answers = parse("send", "f", "b@x", "--yes")
    assert answers.on_unverified == "proceed"  # type: ignore[attr-defined]


def test_a_password_to_compare_comes_from_a_file_or_from_standard_input(tmp_path: Path) -> None:
    (tmp_path / "word").write_bytes("Möwe 42\r\nsecond line\n".encode())
    answers = parse("verify", "--secret-file", str(tmp_path / "word"))
    assert answers.secret == "Möwe 42"  # type: ignore[attr-defined]
    answers = parse("send", "f", "bob@example.org", "--secret-file", "-")
    assert answers.secret is None  # type: ignore[attr-defined]
    assert answers.secret_from_stdin  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "words",
    [
        ("--secret-file", "/nowhere/at/all"),
        ("--secret-file", ""),
        ("--secret-file", "-", "--sas-matches", "yes"),
        ("--secret-file", "-", "--fingerprint", "00" * 32),
    ],
)
def test_a_password_that_cannot_be_had_or_is_one_way_too_many_is_refused(
    words: tuple[str, ...],
) -> None:
    with pytest.raises(UsageError):
        parse("verify", *words)


def test_a_fingerprint_without_value_is_compared_by_eye() -> None:
    answers = parse("verify", "--fingerprint")
    assert answers.by_eye  # type: ignore[attr-defined]
    assert answers.fingerprint is None  # type: ignore[attr-defined]


def test_a_password_cannot_stand_on_the_command_line() -> None:
    parser = build_parser()
    with pytest.raises(UsageError):
        parser.parse_args(["connect", "alice@example.org", "--password", "secret"])


def test_ctrl_c_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "execute", interrupted)
    assert main(["status"]) == 130
    assert capsys.readouterr().err == "tpe2e: Interrupted.\n"


def test_yes_to_a_tube_is_not_a_yes_to_whoever_offers_it() -> None:
    answers = parse("tube", "accept", "--yes", "--require", "verified")
    assert answers.on_unverified is None  # type: ignore[attr-defined]
