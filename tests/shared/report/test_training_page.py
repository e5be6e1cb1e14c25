"""The page of a training job, and a job on a machine without Matplotlib."""

import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from schemas.documentation.examples import examples
from schemas.training import DataAssessed, TrainingCompleted, TrainingRequested
from services.trainer.job import write_report
from shared.report.training import Results, page
from shared.training.collapse import EpochReading

SAID = "<script>alert(1)</script> [/prod]"


def recorded(kind: type[Any]) -> Any:
    return next(one.envelope.event for one in examples() if isinstance(one.envelope.event, kind))


def reading(number: int, train: float, held: float) -> EpochReading:
    return EpochReading(
        number=number,
        of=2,
        train_loss=train,
        held_loss=held,
        skill=0.1,
        fit_skill=0.1,
        spread=0.2,
        width=0.4,
        entropy=1.0,
        distinct=40,
        top=0.5,
    )


def results(*readings: EpochReading) -> Results:
    rng = np.random.default_rng(0)
    answers = rng.dirichlet((2.0, 4.0, 2.0), 200)
    y = np.array([rng.choice(3, p=row) for row in answers])
    validation = SimpleNamespace(prior_log_loss=1.05)
    manifest: Any = SimpleNamespace(data=SimpleNamespace(source=SAID), metrics=SimpleNamespace(validation=validation))
    ended = recorded(TrainingCompleted)
    request = replace(recorded(TrainingRequested), reason=SAID)
    return Results(request, recorded(DataAssessed).report, manifest, readings, answers, y, ended.gains, ended.sanity)


def test_the_page_has_its_charts_its_tables_and_its_remarks() -> None:
    html = page(results(reading(1, 1.1, 1.12), reading(2, 1.0, 1.06)))
    assert [label.split(":")[0] for label in re.findall(r'role="img" aria-label="([^"]+)"', html)] == [
        "Loss by epoch of training and held-out rows",
        "Reliability",
        "Histogram of confidence",
        "outcome against model",
    ]
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "champion +0.5 - - -2.0 to +3.0 it has seen these bars" in text
    assert "BTCUSDT 4,100 4,040 3,949 1 2" in text
    assert "one_class 0.625 0.70" in text
    assert "Never change: gap_flag" in text
    assert "http" not in html


def test_the_page_escapes_what_people_wrote() -> None:
    html = page(results())
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt; [/prod]") == 2
    assert "It has no epochs." in html


def test_a_job_without_matplotlib_goes_on_and_says_why_it_has_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    with caplog.at_level(logging.WARNING):
        write_report(tmp_path / "report.html", results())
    assert not (tmp_path / "report.html").exists()
    assert "report.html is not written: a page with charts needs Matplotlib" in caplog.text
