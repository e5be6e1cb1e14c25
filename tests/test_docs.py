"""The pages: their words, their links, the names in them, and the form of the decision records."""

import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Final, get_args

import pytest

from schemas.catalogue import STREAMS
from schemas.control import Command
from shared.log.written import WRITERS

ROOT: Final = Path(__file__).parents[1]
RECORDS: Final = ROOT / "docs" / "adr"
PAGES: Final = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CHANGELOG.md", "systemd/README.md"))]
)

COINED: Final = re.compile(
    r"\b(behind|doors?|rosters?|summons?|ghosts?|incumbents?|anew|beside|whoever|nobody|somebody|told|tells?|said|came"
    r"|lets? go|taken in|stands?|stood|voices?|past the door)\b",
    re.IGNORECASE,
)
"""Words that once replaced a term: docs name the term (STYLE: control writer, former champion, after, no process)."""
FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """``text`` with blocks of code, code in lines, addresses of links and quotations blanked, line for line."""
    text = FENCED.sub(lambda block: "\n" * block.group().count("\n"), text)
    text = re.sub(r"`[^`\n]*`|\]\([^)\n]*\)", "", text)
    return re.sub(r"^> .*$", "", text, flags=re.MULTILINE)


def slugs(text: str) -> set[str]:
    """The anchors of the headings, as the forge makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_uses_terms_and_no_coined_words(page: Path) -> None:
    lines = enumerate(prose(page.read_text(encoding="utf-8")).splitlines(), 1)
    assert [f"{number}: {match.group()}" for number, line in lines for match in COINED.finditer(line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_page_and_to_a_heading_on_it(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        if address.startswith(("http://", "https://")):
            continue
        file, _, anchor = address.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), address
        assert not anchor or anchor in slugs(target.read_text(encoding="utf-8")), address


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:shared|schemas|services|bench|deploy)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`((?:shared|schemas|services)(?:\.\w+)+)", text):
        assert resolve_name(name) is not None


def test_the_index_lists_every_decision_record_once_with_its_title() -> None:
    index = (RECORDS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| \[([^\]]+)\]\(([^)]+)\) \| \S.* \|$", index, re.MULTILINE)
    records = sorted(RECORDS.glob("[0-9]*.md"))
    titles = [path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for path in records]
    assert [(f"{number}. {title}", file) for number, title, file in rows] == [
        (title, path.name) for title, path in zip(titles, records, strict=True)
    ]


@pytest.mark.parametrize("record", sorted(RECORDS.glob("[0-9]*.md")), ids=lambda path: path.stem[:4])
def test_a_decision_record_has_number_context_decision_and_consequences(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(record.name[:4])}. ")
    assert re.findall(r"^##? (.*)$", text, re.MULTILINE)[1:] == ["Context", "Decision", "Consequences"]


ISSUED_IN: Final = {
    "gate-evaluator": "services/gate_evaluator/main.py",
    "trainer": "services/trainer/main.py",
    "guard": "services/guard/core.py",
    "observatory": "shared/commands/forms.py",
    "phone": "services/phone/core.py",
}
"""The module in which each service that writes control makes its commands."""


def test_the_page_of_control_lists_its_writers_and_what_each_issues() -> None:
    text = (ROOT / "docs" / "explanation" / "control.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z-]+)`[^|]* \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE))
    commands = {command.__name__ for command in get_args(Command)}
    assert set(rows) == set(STREAMS["control"].writers) == {"console", *ISSUED_IN}
    for service, file in ISSUED_IN.items():
        source = (ROOT / file).read_text("utf-8")
        imported = re.findall(r"^from schemas\.control import (\([^)]+\)|.+)$", source, re.MULTILINE)
        issued = commands & {name.strip() for name in imported[0].strip("()").split(",")}
        assert set(re.findall(r"`(\w+)`", rows[service])) == issued, service


def test_the_page_of_lost_writes_names_each_service_that_rebuilds_a_deleted_record() -> None:
    text = (ROOT / "docs" / "how-to" / "after-a-server-lost-its-last-writes.md").read_text(encoding="utf-8")
    named = re.search(r"still there\. The ([^.]+) continue by themselves", text)
    assert named is not None
    cores = (ROOT / "services").glob("*/core.py")
    rebuilding = {core.parent.name for core in cores if "def recall(" in core.read_text(encoding="utf-8")}
    services = {name.replace("_", "-") for name in rebuilding}
    assert {name for name in services if name in named[1]} == services
    assert named[1].replace(" of each model", "").replace("\n", " ").count("the ") + 1 == len(services)


def test_the_table_of_lost_entries_has_a_row_for_every_service_and_names_every_stream() -> None:
    text = (ROOT / "docs" / "explanation" / "crash-anywhere.md").read_text(encoding="utf-8")
    lost = text[text.index("| gone | what happens |") : text.index("**By service.**")]
    services = text[text.index("| service | notices by |") : text.index("**How the loss is named.**")]
    rows = {name for cell in re.findall(r"^\| ([^|]+) \|", services, re.MULTILINE) for name in cell.split(", ")}
    holders = {service for spec in STREAMS.values() for service in (*spec.writers, *spec.readers)} - {"console"}
    assert holders <= rows
    words = {"market": "bars", "gates": "verdicts", "dead": "dead letter", "alarms": "alarm"}
    assert [name for name in STREAMS if words.get(name, name) not in lost] == []


def page(*path: str) -> str:
    return ROOT.joinpath("docs", *path).read_text(encoding="utf-8")


def test_the_pages_of_archive_and_digests_name_the_streams_that_they_are_about() -> None:
    kept = re.search(r"Streams without a retention \(([^)]+)\)", page("explanation", "archive.md"))
    assert kept is not None
    assert {*kept[1].split(", ")} == {name for name, spec in STREAMS.items() if spec.retention_ms is None}
    digests = page("explanation", "digests.md")
    rows = dict(re.findall(r"^\| `(\w+)` \| `([a-z-]+)", digests, re.MULTILINE))
    assert rows == dict(WRITERS)
    others = re.search(r"\*\*Streams that are not in the table\*\*:(.*?)own chain", digests, re.DOTALL)
    assert others is not None
    assert {*re.findall(r"`(\w+)`", others[1])} == {*STREAMS} - {*WRITERS}
