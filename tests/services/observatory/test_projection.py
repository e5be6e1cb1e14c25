"""The projections survive a kill, and begin again where the file says."""

from pathlib import Path

import msgspec
import pytest

from bench.replayed import Replayed
from services.console.evidence.shadow import read_report
from services.observatory import core
from services.observatory.gathering import find
from services.observatory.projection import LENGTH, SHAPE, Kept, Projection
from services.observatory.screens import history, models, now
from services.observatory.screens.now import Around
from shared.control.issuing import history as entries_of
from shared.log import StreamKey, UnavailableError
from shared.log.leases import id_order
from shared.log.memory import MemoryLog
from tests.services.observatory.conftest import Opened, caught_up, filled, more

pytestmark = pytest.mark.anyio


def screens(projection: Projection) -> tuple[object, ...]:
    """Everything that is shown, but for what depends on the time."""
    state, control, around = projection.state, projection.newest, Around(now=1_800_000_000_000)
    return (
        msgspec.structs.replace(now.screen(state, control, around)),
        models.screen(state, control),
        history.screen(state, projection.control),
        history.version(state, projection.control, 5),
    )


async def test_after_a_kill_at_any_point_the_same_is_shown(replayed: Replayed, opened: Opened) -> None:
    log = await filled(replayed, 0.4)
    first = await caught_up(opened(log))
    first.save()
    await more(log, replayed, 0.4, 0.7)
    while first.state.read.get("scores", 0) < 0.6 * len(replayed.source.places[StreamKey("scores")]):
        await first.turn()  # what was read since the file is lost with the process
    await more(log, replayed, 0.7, 1.0)
    again = await caught_up(opened(log))
    straight = await caught_up(Projection(await filled(replayed), 1, Path("none"), clock=again.clock))
    assert screens(again) == screens(straight)
    assert again.state.read == straight.state.read


async def test_a_file_that_is_damaged_or_of_another_installation_is_not_used(
    replayed: Replayed, opened: Opened, tmp_path: Path
) -> None:
    log = await filled(replayed)
    whole = await caught_up(opened(log))
    whole.save()
    file = tmp_path / "observatory.bin"
    good = file.read_bytes()

    def under(kept: Kept) -> bytes:
        head = msgspec.msgpack.encode(kept)
        return len(head).to_bytes(LENGTH) + head + core.snapshot(core.State())

    other, older = under(Kept("other", {}, SHAPE)), under(Kept(whole.newest.log_id))
    for damaged in (good[:100], good[:-9], b"nothing", b"", other, older):
        file.write_bytes(damaged)
        assert screens(await caught_up(opened(log))) == screens(whole)
    file.write_bytes(good)
    from_file = opened(log)
    await from_file.begin()
    assert from_file.state.read == whole.state.read


async def test_a_file_is_of_one_moment_though_events_are_folded_while_it_is_written(
    replayed: Replayed, opened: Opened, tmp_path: Path
) -> None:
    log = await filled(replayed, 0.5)
    projection = await caught_up(opened(log))
    before = core.snapshot(projection.state)
    pieces = core.pieces(projection.state)
    projection._begin_saving()
    await more(log, replayed, 0.5, 1.0)
    while projection.state.read["scores"] < len(replayed.source.places[StreamKey("scores")]):
        await projection.turn()
    assert b"".join(pieces) == before != core.snapshot(projection.state)
    projection._saving.result()
    from_file = opened(log)
    await from_file.begin()
    assert core.snapshot(from_file.state) == before
    assert screens(await caught_up(from_file)) == screens(projection)


async def test_without_a_file_only_the_last_days_of_busy_streams_are_read(replayed: Replayed, tmp_path: Path) -> None:
    newest = max(id_order(entries[-1].id)[0] for entries in replayed.source.places.values())
    late = MemoryLog(now=lambda: newest + 3 * 86_400_000)
    await more(late, replayed, 0.0, 1.0)
    seen = await caught_up(Projection(late, 1, tmp_path / "x.bin", days=2))
    assert not {"market", "decisions", "scores"} & seen.state.read.keys()
    assert seen.newest.version == len(await entries_of(late))


async def test_the_evidence_is_that_of_the_shadow_report(replayed: Replayed, opened: Opened) -> None:
    log = await filled(replayed)
    projection = await caught_up(opened(log))
    report = await read_report(log, 1)
    for one in (*report.candidates, *report.members):
        assert models.candidate_of(projection.state, projection.newest, 0, one.artifact) == one


async def test_a_server_that_does_not_answer_is_shown_and_read_on_from(replayed: Replayed, opened: Opened) -> None:
    log = await filled(replayed, 0.5)
    projection = await caught_up(opened(log))
    read = log.read

    async def silent(*_: object, **__: object) -> list[object]:
        raise UnavailableError("no server at 127.0.0.1")

    log.read = silent  # type: ignore[assignment,method-assign]  # the server is away
    await projection.turn()
    assert (projection.error, projection.unreachable) == ("no server at 127.0.0.1", projection.now)
    log.read = read  # type: ignore[method-assign]  # and back
    await more(log, replayed, 0.5, 1.0)
    while not projection.error and projection.state.read["scores"] < len(replayed.source.places[StreamKey("scores")]):
        await projection.turn()
    await projection.turn()
    assert projection.error == ""


async def test_what_the_server_lost_is_no_longer_shown(replayed: Replayed, opened: Opened) -> None:
    log = await filled(replayed, 0.5)
    image = log.image()
    await more(log, replayed, 0.5, 1.0)
    projection = await caught_up(opened(log))
    log.restore(image)
    projection._connections = -1  # a server that was replaced broke them
    await projection.turn()
    while not projection.caught_up:
        await projection.turn()
    await projection.turn()
    straight = await caught_up(Projection(await filled(replayed, 0.5), 1, Path("none"), clock=projection.clock))
    assert screens(projection) == screens(straight)


async def test_topics_that_changed_are_known_and_wake_whoever_waits(replayed: Replayed, opened: Opened) -> None:
    log = await filled(replayed, 0.5)
    projection = await caught_up(opened(log))
    before, waiting = projection.revision, projection.waiting
    assert not waiting.is_set()
    await more(log, replayed, 0.5, 0.6)
    await projection.turn()
    assert waiting.is_set()
    assert {"market", "decisions", "BTCUSDT.300000.synthetic"} <= set(projection.changed_since(before))
    assert projection.changed_since(projection.revision) == []


async def test_a_decision_is_found_by_the_first_digits_of_its_id(replayed: Replayed, opened: Opened) -> None:
    projection = await caught_up(opened(await filled(replayed)))
    for series in projection.state.series.values():
        assert series.decision is not None
        found = find(projection.state, series.decision.id[:10])
        assert found is not None
        assert (found[0].name, found[1]) == (series.name, series.decision)
    assert find(projection.state, "0" * 32) is None
