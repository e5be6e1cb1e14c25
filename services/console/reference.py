"""Write ``docs/reference/commands.md`` from the help texts: ``python -m services.console.reference``."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from services.console.cli import cli

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
HEAD: Final = """# Commands

Written by `make docs` from the help texts of the commands. Exit codes: 0 done, 1 a check failed or a command was
refused, 2 wrong usage or it cannot run, 3 inconclusive, 75 try again: the server is loading, busy, out of connections
or changing its role (`run`, `guard`, `observatory` and `prepare` also end so where it does not answer, takes no writes
or lost its last ones), 130 interrupted by Ctrl-C (what runs until then, as `up`, ends with 0).
Commands that change something need `--reason`.

A table that is wider than the terminal is printed as a block for each row, with the names of its columns; 80 columns
are assumed in a pipe (`COLUMNS` sets another width). No number and no id is ever cut. Programs read `-o json`.
"""


def page() -> str:
    """Return the whole page."""
    context = click.Context(cli, info_name="conclave")
    return HEAD + "".join(section for name in cli.list_commands(context) for section in _sections(context, name))


def _sections(parent: click.Context, name: str) -> Iterator[str]:
    assert isinstance(parent.command, click.Group)
    command = parent.command.get_command(parent, name)
    assert command is not None
    if command.hidden:
        return
    context = click.Context(command, info_name=name, parent=parent, max_content_width=110)
    if isinstance(command, click.Group):
        yield f"\n## {context.command_path}\n\n{_help(command)}\n"
        for child in command.list_commands(context):
            yield from _sections(context, child)
        return
    usage = " ".join(piece for piece in command.collect_usage_pieces(context))
    yield f"\n## {context.command_path}\n\n`{context.command_path} {usage}`\n\n{_help(command)}\n"
    rows = [row for row in map(_row, command.get_params(context)) if row]
    if rows:
        yield "\n| option | meaning |\n|---|---|\n" + "".join(rows)


def _help(command: click.Command) -> str:
    return " ".join((command.help or "").split())


def _row(parameter: click.Parameter) -> str:
    if not isinstance(parameter, click.Option) or parameter.hidden or "--help" in parameter.opts:
        return ""
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    kind = parameter.type
    values = f" One of {', '.join(map(str, kind.choices))}." if isinstance(kind, click.Choice) else ""
    default = parameter.default if parameter.show_default and not callable(parameter.default) else None
    shown = f" Default: {default}." if default is not None else ""
    required = " Required." if parameter.required else ""
    return f"| {names} | {parameter.help or ''}{values}{shown}{required} |\n"


def main() -> int:
    """Write the page. With ``--check`` write nothing, and return 1 if the page is out of date."""
    if "--check" in sys.argv:
        return 0 if PAGE.read_text() == page() else 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
