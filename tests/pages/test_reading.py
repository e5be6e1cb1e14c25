"""How commands and shown output are read from pages, and that no page with a command is left out."""

from pathlib import Path
from typing import Final

import pytest

from tests.pages.reading import ROOT, Command, absent, blocks

PAGES: Final = (
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
)
TYPING: Final = ("test_commands.py", "test_operating.py")
READ: Final = "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in TYPING)


def commands(text: str) -> list[Command]:
    return [command for block in blocks(text) for command in block.commands]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_with_a_command_that_is_run_is_read_and_others_say_why_not(page: Path) -> None:
    run = [command.text for command in commands(page.read_text(encoding="utf-8")) if not command.not_run]
    assert (f'"{page.relative_to(ROOT)}"' in READ) == bool(run), run


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_their_own_line_are_in_fences_and_not_indented(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    fenced, outside = False, []
    for line in lines:
        fenced = not fenced if line.lstrip().startswith("```") else fenced
        if not fenced and line.startswith("    ") and "conclave " in line.split("`")[0]:
            outside.append(line)
    assert outside == []


def test_a_command_goes_on_after_a_backslash_and_within_a_here_document() -> None:
    text = "```\nconclave a \\\n    --b c\n\n# a remark\ncat > f <<'EOF'\n[x]\nEOF\nconclave d   # why\n```\n"
    assert [command.text for command in commands(text)] == [
        "conclave a \\\n    --b c",
        "cat > f <<'EOF'\n[x]\nEOF",
        "conclave d   # why",
    ]


def test_where_a_block_has_prompts_its_other_lines_are_output() -> None:
    assert commands("```\n$ conclave a\none\n two\n$ conclave b\n```\n") == [
        Command("conclave a", "one\n two\n"),
        Command("conclave b"),
    ]


def test_a_command_is_not_run_for_the_reason_in_a_comment_or_for_its_first_word() -> None:
    text = (
        "<!-- not run: it needs a moon -->\n```\nconclave a\n```\n```\ndocker ps\nconclave b\n```\n```toml\n[a]\n```\n"
    )
    assert [command.not_run for command in commands(text)] == ["it needs a moon", "Docker", ""]
    whole = "# A page\n\n<!-- nothing here is run: systemd -->\n\n```sh\nconclave a\n```\n"
    assert commands(whole) == [Command("conclave a", "", "systemd")]


@pytest.mark.parametrize(
    ("shown", "came"),
    [
        ("version 12 of 9f2c0b1d4e5a", "version 7 of 0123456789ab"),
        ("a  b │ c", "│ a │ b   c │"),
        ("took 1.25 s ... done", "took 0.5 s, and more: done"),
        ("one\nthree", "one\ntwo\nthree"),
    ],
)
def test_numbers_ids_and_widths_of_what_is_shown_may_differ(shown: str, came: str) -> None:
    assert absent(shown, came) == ""


@pytest.mark.parametrize(
    ("shown", "came", "missing"),
    [
        ("version 12", "versions 12", "version 12"),
        ("a (b)", "a b", "a (b)"),
        ("one\nthree", "three\none", "three"),
    ],
)
def test_words_and_their_order_may_not_differ(shown: str, came: str, missing: str) -> None:
    assert absent(shown, came) == missing
