"""Docstrings, comments and messages of the code: "behind" does not mean after, and no coined word replaces a term."""

import io
import re
import tokenize
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
CLEAN: Final = [
    "schemas",
    "services/archiver",
    "services/console",
    "services/ensemble_voter",
    "services/feature_builder",
    "services/feed",
    "services/gate_evaluator",
    "services/guard",
    "services/model_worker",
    "services/observatory",
    "services/phone",
    "services/shadow_recorder",
    "services/trainer",
    "services/watcher",
    "shared/archive",
    "shared/artifacts",
    "shared/audit",
    "shared/bars",
    "shared/control",
    "shared/doctor",
    "shared/families",
    "shared/features",
    "shared/gates",
    "shared/importing",
    "shared/labels",
    "shared/log",
    "shared/recovery",
    "shared/report",
    "shared/runtime",
    "shared/server",
    "shared/synthetic",
    "shared/telemetry",
    "shared/training",
    "shared/voting",
]
"""The folders that were rewritten. The list grows until it names them all; a folder does not leave it."""
ALLOWED: Final = (
    "behind the market",
    "far behind",
    "fall behind",
    "falls behind",
    "lag behind",
)
"""Where "behind" means a lag, as it does in English."""
PINNED: Final = (
    "changed behind the chain",
    "changed behind version",
    "the door gives",
    "nobody voted",
    "nobody else votes",
    "nobody could ever",
    "nobody: the server was emptied",
    "over the ghost's",
    "register it anew",
)
"""Texts that are recorded, pinned by histories, or a message that is kept."""
PROSE: Final = {"STRING", "COMMENT", "FSTRING_MIDDLE"}
MISUSED: Final = re.compile(
    r"\b(behind|doors?|rosters?|summons?|ghosts?|incumbents?|anew|whoever|nobody|somebody|told|voices?|lets? go)\b",
    re.IGNORECASE,
)


def misused(source: str) -> list[int]:
    """The lines on which a comment or a text has one of the words. A text that is one word is a value, and so is a word
    in double backquotes."""
    lines = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if tokenize.tok_name[token.type] in PROSE and not MISUSED.fullmatch(token.string.strip("\"'")):
            text = re.sub(r"``.*?``", "", " ".join(token.string.split()))
            for phrase in (*ALLOWED, *PINNED):
                text = text.replace(phrase, "")
            if MISUSED.search(text):
                lines.append(token.start[0])
    return lines


@pytest.mark.parametrize("folder", CLEAN)
def test_the_code_uses_terms_and_no_coined_words(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert [f"{file.relative_to(ROOT)}:{line}" for file in files for line in misused(file.read_text("utf-8"))] == []


def test_a_misuse_is_found_and_a_lag_a_name_and_a_value_are_not() -> None:
    assert (
        misused('behind = 1\nreason = "behind"\nwarn("a service has been far behind")\n# ``ghost`` is a field\n') == []
    )
    assert misused('"""The door."""\nfail("nobody answers")\n# it begins anew\n') == [1, 2, 3]
    assert misused('"""The rows behind the first."""\n# what lies behind\nfail(f"lost behind {entry}")\n') == [1, 2, 3]
