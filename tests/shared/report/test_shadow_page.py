"""The page: it stands alone, says where its bars came from, and has the numbers beside the pictures."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from msgspec.structs import replace

from bench.recorded import CANDIDATE, OTHER, PRIOR, checked, market, missing, scored, unscored, verdict
from schemas.scores import ScoreEvent
from shared.gates.policy import DefaultPolicy
from shared.report import tables
from shared.report.drawing import COLOURS
from shared.report.fold import Shadows, evolve
from shared.report.shadow import page
from shared.report.summary import Report, Verdict, summarise
from shared.report.text import e_words, origin_words


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of turn; remembers what was loaded and run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "srcset"}]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def summarised(*events: ScoreEvent, verdicts: dict[tuple[str, str], Verdict] | None = None) -> Report:
    state = Shadows(DefaultPolicy())
    for event in events:
        evolve(state, event)
    return summarise(state, verdicts)


def drawn(*events: ScoreEvent, verdicts: dict[tuple[str, str], Verdict] | None = None) -> str:
    return page(summarised(*events, verdicts=verdicts))


def text_of(html: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


@pytest.fixture(scope="module")
def whole() -> str:
    rows = list(market(300))
    about = rows[-1]
    return drawn(
        *rows,
        unscored(about, "failed", "wrong_feature_set: trained on user-18 <b>"),
        missing(about),
        checked(about, 300, 300),
        verdicts={("xgboost", CANDIDATE.hex()): Verdict("ab" * 16, verdict())},
    )


def test_the_page_stands_alone(whole: str) -> None:
    parsed = Balanced()
    parsed.feed(whole)
    assert parsed.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.seen)
    assert parsed.links == []
    assert "http" not in whole.lower()
    assert "url(" not in whole
    assert "@import" not in whole


def test_all_charts_are_there(whole: str) -> None:
    labels = re.findall(r'role="img" aria-label="([^"]+)"', whole)
    assert [label.split(":")[0] for label in labels] == [
        "e-values over time against the line that decides",
        "Cumulative skill over time",
        "Reliability",
        "Histogram of confidence",
        "Shares of actions over time",
        "candidate against ensemble",
        "candidate against outcome",
    ]


def test_numbers_stand_beside_the_pictures(whole: str) -> None:
    text = text_of(whole)
    assert "300 of 300 decisions with shadow ballots are the same without them." in text
    assert "unscored: failed 1, no ballot in the round 1" in text
    assert "conclave gates explain abababababab" in text
    assert "distinct critical passed 812 50 4,800" in text
    assert "over the class prior" in text
    assert "2,400" in text


def test_light_and_dark_are_both_there(whole: str) -> None:
    assert "prefers-color-scheme: dark" in whole
    light, dark = whole.split("prefers-color-scheme: dark", maxsplit=1)[0], whole.split("prefers-color-scheme: dark")[1]
    names = set(re.findall(r"(--\w+):", light))
    assert names == set(re.findall(r"(--\w+):", dark.split("}")[0]))
    assert set(re.findall(r"var\((--\w+)\)", whole)) <= names


def test_text_of_people_cannot_become_markup(whole: str) -> None:
    assert "user-18 &lt;b&gt;" in whole
    assert "user-18 <b>" not in whole
    row = replace(scored(0, "A", PRIOR, 1), model="<script>alert(1)</script>[/prod]")
    html = drawn(row, unscored(row, "failed", "<img src=x> [/prod]"))
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;[/prod]" in html
    assert "&lt;img src=x&gt; [/prod]" in html


def test_a_colour_of_a_chart_is_one_of_the_style_sheet(whole: str) -> None:
    style = whole.split("</style>", maxsplit=1)[0]
    assert set(COLOURS) <= set(re.findall(r"--(\w+):", style))


def test_numbers_are_the_rows_that_a_terminal_shows(whole: str) -> None:
    (candidate,) = summarised(*market(300)).candidates
    text = text_of(whole)
    for table in (tables.evidence, tables.gains, tables.calibration, tables.confidence, tables.actions):
        for row in table(candidate).rows:
            assert " ".join(row) in text


@pytest.mark.parametrize(
    ("origins", "words"),
    [
        (("live",), "All 4 scores are of live bars."),
        (("replay",), "REPLAY: all 4 scores"),
        (("synthetic",), "they are no evidence about any market"),
        (("live", "synthetic"), "MIXED: this report combines scores of different origin: 2 live, 2 synthetic."),
    ],
)
def test_the_page_says_where_the_bars_came_from(origins: Any, words: str) -> None:
    rows = [scored(bar, "A", PRIOR, 1, origin=origins[bar % len(origins)]) for bar in range(4)]
    html = drawn(*rows)
    assert words in text_of(html)
    assert ('class="banner warned"' in html) == (origins != ("live",))


def test_interference_is_not_hidden() -> None:
    row = scored(0, "A", PRIOR, 1)
    html = drawn(row, checked(row, 5, 4, b"\x99" * 16))
    assert 'class="banner bad"' in html
    assert "4 of 5" in text_of(html)
    assert "99" * 16 in html


def test_a_candidate_without_a_score_has_no_pictures_and_its_reason() -> None:
    html = drawn(unscored(scored(0, "A", PRIOR, 1), "failed", "no file"))
    assert "<svg" not in html
    assert "No prediction has been scored. Unscored: failed 1." in text_of(html)


def test_an_empty_log_gives_a_page_that_says_so() -> None:
    assert "Nothing was scored yet." in text_of(drawn())


def test_the_same_scores_give_the_same_page() -> None:
    assert drawn(*market(80)) == drawn(*market(80))


def test_candidates_stand_in_the_order_of_their_names() -> None:
    row = scored(0, "A", PRIOR, 1)
    html = drawn(row, replace(row, model="nhits", artifact=OTHER))
    assert html.index("<h2>nhits") < html.index("<h2>xgboost")


def test_words_for_numbers() -> None:
    assert origin_words({}) == "Nothing was scored yet."
    assert e_words(0.0) == "1"
    assert e_words(3.0) == "20.1"
    assert e_words(100.0) == "1e43"
