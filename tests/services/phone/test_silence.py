"""A chat server that does not answer the bot is reported once, and so is its end."""

import pytest

from schemas.codec import decode
from schemas.operations import PhoneAnswers, PhoneSilent
from services.phone import main
from services.phone.silence import ALARMS, SILENT_MS, Silence
from services.watcher.core import observe
from services.watcher.state import State
from shared.doctor.phone import chat_checks
from shared.log import Log, UnavailableError
from shared.settings import PhoneSettings, Settings
from shared.telemetry.metrics import MetricReading
from shared.telemetry.reporting import Telemetry
from tests.services.phone.bot_server import ADA, BAD_GATEWAY, BotServer
from tests.services.phone.conftest import Started

UNAUTHORIZED = (401, {"ok": False, "error_code": 401, "description": "Unauthorized"})
FORBIDDEN = (403, {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked"})
BAD_REQUEST = (400, {"ok": False, "error_code": 400, "description": "Bad Request"})
CONFLICT = (409, {"ok": False, "error_code": 409, "description": "Conflict: terminated by other getUpdates request"})


class Meter(Telemetry):
    """Keeps the last gauges."""

    readings: list[MetricReading]

    def levels(self, readings: object) -> None:
        """See ``Telemetry``."""
        self.readings = list(readings)  # type: ignore[call-overload]  # a sequence


async def reports(log: Log) -> list[PhoneSilent | PhoneAnswers]:
    return [decode("alarms", entry.data).event for entry in await log.scan(ALARMS)]


def test_only_two_minutes_without_an_answer_are_silence() -> None:
    silence = Silence(0)
    silence.answered(1_000)
    silence.failed("no route")
    assert silence.due(1_000 + SILENT_MS - 1, 500_000) is None
    event = silence.due(1_000 + SILENT_MS, 500_000)
    assert isinstance(event, PhoneSilent)
    assert (event.began, event.detail, event.at) == (500_000 - SILENT_MS, "no route", 500_000)
    assert silence.due(1_000 + SILENT_MS, 500_000) == event  # until it is written
    silence.wrote(event)
    assert silence.due(9 * SILENT_MS, 900_000) is None
    silence.answered(9 * SILENT_MS)
    over = silence.due(9 * SILENT_MS, 900_000)
    assert isinstance(over, PhoneAnswers)
    silence.wrote(over)
    assert silence.due(9 * SILENT_MS, 900_000) is None


def test_a_bot_that_was_never_answered_is_silent_and_one_after_a_report_only_ends_it() -> None:
    assert isinstance(Silence(0).due(SILENT_MS, 1), PhoneSilent)
    again = Silence(0, reported=True)
    assert again.due(2 * SILENT_MS, 1) is None
    again.answered(2 * SILENT_MS)
    assert isinstance(again.due(2 * SILENT_MS, 1), PhoneAnswers)


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [BAD_GATEWAY, UNAUTHORIZED, FORBIDDEN, BAD_REQUEST, CONFLICT], ids=lambda one: one[0])
async def test_a_server_that_refuses_the_bot_is_an_alarm_until_it_answers(
    log: Log, server: BotServer, started: Started, monkeypatch: pytest.MonkeyPatch, fault: tuple[int, object]
) -> None:
    monkeypatch.setattr(main, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(main, "LAST_RETRY_S", 0.01)
    monkeypatch.setattr("services.phone.telegram.BAD_TOKEN_S", 0.01)
    meter, now = Meter(), 0
    server.faults["getUpdates"] = [fault] * 100_000
    async with started() as bot:
        await bot.begin()
        monkeypatch.setattr(bot._clock, "steady_ms", lambda: now)
        bot.silence = Silence(0)
        await server.until(lambda: len(server.faults["getUpdates"]) < 99_998)
        await bot.report(meter)
        assert await reports(log) == []
        now = SILENT_MS
        for _ in range(3):
            await bot.report(meter)
        (silent,) = await reports(log)
        assert isinstance(silent, PhoneSilent)
        assert meter.readings == [MetricReading("conclave.phone.silence", (), SILENT_MS / 1000)]
        assert "a-secret-of-the-bot" not in str(silent)
        (raised,) = observe(state := State(), silent, 0, silent.at)
        assert (raised.alert, raised.kind, raised.severity) == ("phone-silent", "raised", "critical")
        assert "no one can halt by phone" in raised.text
        (wrong,) = await chat_checks(Settings(), log)
        assert (wrong.verdict, wrong.do) == ("wrong", "docs/how-to/runbooks/phone-silent.md")

    async with started() as again:  # a bot that is started again goes on from the report
        await again.begin()
        await again.report(meter)
        assert len(await reports(log)) == 1
        server.faults.clear()
        server.message(ADA, "/help")
        await server.until(lambda: bool(server.texts(ADA)))
        await again.report(meter)
        await again.report(meter)
        _, answers = await reports(log)
        (resolved,) = observe(state, answers, 0, silent.at + 1)
        assert (resolved.alert, resolved.kind) == ("phone-silent", "resolved")
        assert await chat_checks(Settings(), log) == []
        (good,) = await chat_checks(Settings(phone=PhoneSettings(persons=("1 ada",))), log)
        assert good.verdict == "good"


@pytest.mark.anyio
async def test_an_alarm_that_cannot_be_written_is_written_when_the_log_answers(
    log: Log, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> bool:
        raise UnavailableError("no server")

    async with started() as bot:
        bot.silence = Silence(-SILENT_MS * 1_000_000)
        with monkeypatch.context() as unreachable:
            unreachable.setattr(type(log), "append_at", away)
            await bot.report(Telemetry())
        assert await reports(log) == []
        await bot.report(Telemetry())
        assert len(await reports(log)) == 1
