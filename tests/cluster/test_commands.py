"""Every command on a cluster, and on one that the settings name in a wrong way."""

import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

from bench.installation import Installation
from bench.servers import Node
from tests.cluster.load import WHY, loaded

OWNED: Final = ("groups", "skip", "ensemble-voter", "predictions", *WHY)
"""A group whose owner lives is not touched."""
LOOKS: Final[tuple[tuple[str, ...], ...]] = (
    ("status", "-o", "json"),
    ("decisions", "-n", "1"),
    ("history",),
    OWNED,
    ("verify",),
    ("archive", "status"),
    ("recover",),
    ("prepare",),
    ("halt", *WHY),
    ("resume", *WHY),
    ("doctor",),
    ("keys", "list"),
    ("train", "status"),
)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output + errors


def test_every_command_works_on_a_cluster(nodes: list[Node], cluster_url: str, tmp_path: Path) -> None:
    with loaded(tmp_path / "installation", cluster_url, partitions=2) as load:
        here = load.installation
        with load.fed(400):
            pass
        for words in LOOKS:
            done = here.run(*words)
            assert "Traceback" not in done.stderr, (words, done.stderr)
            assert done.returncode == (2 if words == OWNED else 0), (words, done.stdout, done.stderr)
        assert here.run("gates").returncode == 3  # nothing is in shadow
        follower, watcher = here.start("decisions", "--follow", "--last", "0"), here.start("run", "watcher")
        guard = here.start("guard")
        with load.fed(800):
            pass
        code, lines = ended(watcher)
        assert (code, "Traceback" in lines) == (0, False), lines
        assert "Traceback" not in ended(guard)[1]
        shown = ended(follower)[1]
        assert len(shown.splitlines()) >= 200, shown[-2000:]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/0", "redis+sentinel://127.0.0.1:{}/trading"])
def test_every_command_names_what_to_write_if_the_settings_name_a_cluster_as_something_else(
    nodes: list[Node], url: str, tmp_path: Path
) -> None:
    here = Installation(tmp_path / "installation", models=("prior",), url=url.format(nodes[0].port))
    for words in (
        *LOOKS,
        ("found", *WHY),
        ("up",),
        ("run", "ensemble-voter"),
        ("run", "watcher"),
        ("guard",),
        ("gates",),
    ):
        if words not in {("keys", "list"), ("archive", "status")}:
            done = here.run(*words)
            assert done.returncode == 2, (words, done.stdout, done.stderr)
            assert "Traceback" not in done.stderr, (words, done.stderr)
            assert "In [redis]" in done.stderr or "in [redis]" in done.stderr, (words, done.stderr)
    assert "nothing to do" in here.conclave("down")
