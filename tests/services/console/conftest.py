"""The console as a person has it: words in, an exit code and text out, on a server of its own."""

import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
import rich

from schemas.codec import encode
from schemas.common import ACTIONS
from schemas.control import Command, Found, Promote, RegisterArtifact
from schemas.readiness import ArtifactReady
from services.console.cli import main
from shared.control.issuing import Issued, issue
from shared.log import Commit, Log
from shared.log.redis import RedisLog
from shared.runtime.process import owner

A1, A2, B1 = "a1" * 32, "a2" * 32, "b1" * 32
THIRD = (-1.1, -1.1, -1.1)


def register(model: str, artifact: str, features: tuple[str, ...] = ("rsi_14", "macd"), name: str = "s") -> Command:
    digest = f"{len(features)}{name}".encode().hex().ljust(64, "0")
    return RegisterArtifact(
        model=model,
        artifact=artifact,
        family="prior",
        feature_set=digest,
        feature_set_name=name,
        interval_ms=60_000,
        classes=ACTIONS,
        centre=THIRD,
        prior=(0.25, 0.5, 0.25),
        features=features,
        libraries={"numpy": "2.0"},
    )


TWO_MODELS = (
    Found(1, "log-of-a-test"),
    register("a", A1),
    register("a", A2),
    register("b", B1),
    Promote("a", A1, forced=True, weight=1.0),
    Promote("b", B1, forced=True, weight=0.5),
)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Desk:
    """A console on ``url``, and the log behind it."""

    A1, A2, B1 = A1, A2, B1

    def __init__(self, url: str, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self.settings = folder / "conclave.toml"
        state = json.dumps(str(folder / "var"))
        sections = f'[redis]\nurl = "{url}"\nephemeral = true\n\n[installation]\nstate = {state}\n'
        self.settings.write_text(f'{sections}\n[models]\nnames = ["a", "b"]\n')
        self._capture = capture

    def __call__(self, *words: str) -> Ended:
        sys.argv = ["conclave", "--settings", str(self.settings), *words]
        self._capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capture.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    def with_log(self, act: Callable[[Log], Coroutine[Any, Any, Any]]) -> Any:
        async def run() -> Any:
            log = RedisLog(self.url)
            try:
                return await act(log)
            finally:
                await log.close()

        return anyio.run(run)

    def issue(self, *commands: Command) -> list[Issued]:
        async def each(log: Log) -> list[Issued]:
            return [await issue(log, command, actor="ada", reason="a test") for command in commands]

        found: list[Issued] = self.with_log(each)
        return found

    def say_ready(self, model: str, *artifacts: str) -> None:
        """A living worker of ``model`` holds these."""
        group = f"model-worker.{model}"

        async def announce(log: Log) -> None:
            claim = await log.claim(group, ("features",), 0, owner(group), take_over=True)
            events = [
                ArtifactReady(
                    model=model,
                    artifact=artifact,
                    owner=str(owner(group)),
                    life="6f1d09b2",
                    control_version=1,
                    took_ms=20,
                    at=1,
                )
                for artifact in artifacts
            ]
            await log.commit(claim, Commit([encode("readiness", event) for event in events], {}, {}))

        self.with_log(announce)


@pytest.fixture
def desk(
    empty_redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """A console on an empty log."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("COLUMNS", "200")
    rich.reconfigure(width=200)
    return Desk(empty_redis_url, tmp_path, capsys)


@pytest.fixture
def two(desk: Desk) -> Desk:
    """A console on a log with two voting models, ``a`` (A1, with A2 registered) and ``b`` (B1)."""
    desk.issue(*TWO_MODELS)
    return desk
