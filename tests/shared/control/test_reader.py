"""What stands on the control stream: whatever it is, a reader applies it, refuses it, or stops with a word."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.codec import ROOT, encode, identify
from schemas.control import Command, CommandRecorded, Found, Halt, Resume, TrustKey
from shared.control import EMPTY, ControlError, ControlReader, canonical, fold, head_of, propose
from shared.control import reader as reader_module
from shared.control.signing import Signer, generate, load_private, sign

COMMANDS: tuple[Command, ...] = (Found(1, "log-of-a-test"), Halt(), Resume(), Halt(), Resume())


def entries() -> list[CommandRecorded]:
    state, made = EMPTY, list[CommandRecorded]()
    for number, command in enumerate(COMMANDS):
        entry = propose(state, command, command_id=f"c{number}", actor="ada", reason="test", at=number)
        assert isinstance(entry, CommandRecorded)
        made.append(entry)
        state = fold(state, entry)
    return made


LOG = [(f"{entry.version}-0", encode("control", entry).data) for entry in entries()]


def read(log: list[tuple[str, bytes]]) -> ControlReader:
    reader = ControlReader()
    for entry, data in log:
        reader.take(entry, data)
    return reader


def refusal(data: bytes, entry: str = "3-0") -> str:
    """Why these bytes do not count as the third entry; the true one counts behind them."""
    reader = read(LOG[:2])
    assert reader.take(entry, data) is None
    assert reader.state.version == 2
    assert reader.take("2000000000000-0", LOG[2][1]) is not None
    [refused] = reader.refused
    assert (refused.entry, refused.version, refused.data) == (entry, 2, data)
    return refused.reason


@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_refused(data: bytes) -> None:
    assert refusal(data)


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_bytes_that_nest_without_end_are_refused(bracket: bytes) -> None:
    opening = LOG[2][1].split(b'"event":')[0] + b'"event":'
    assert refusal(opening + bracket * 200_000)
    assert refusal(bracket * 200_000)


@given(st.integers(0, len(LOG[2][1]) - 1), st.integers(0, 255))
def test_no_byte_of_an_entry_can_be_another(place: int, value: int) -> None:
    data = bytearray(LOG[2][1])
    if data[place] == value:
        return
    data[place] = value
    reader = read(LOG[:2])
    try:
        assert reader.take("3-0", bytes(data)) is None
        said = " ".join(refused.entry for refused in reader.refused)
    except ControlError as error:
        said = str(error)
    assert "3-0" in said


@given(st.permutations(range(len(LOG))))
def test_no_other_order_of_the_entries_is_the_same_log(order: list[int]) -> None:
    log = [(f"{place}-0", LOG[which][1]) for place, which in enumerate(order, start=1)]
    try:
        reader = read(log)
    except ControlError:
        return
    assert bool(reader.refused) == (order != sorted(order))


def test_an_entry_under_an_id_that_the_door_does_not_give_is_refused() -> None:
    assert "not one that the door gives (3-0)" in refusal(LOG[2][1], "2-1")


def test_an_envelope_that_is_not_the_entrys_is_refused() -> None:
    envelope = json.loads(LOG[2][1])
    for change in ({"flags": 1}, {"schema": 9}, {"id": "00" * 16}, {"causation": "zz" * 16}, {"causation": "A0" * 16}):
        changed = json.dumps({**envelope, **change}, separators=(",", ":")).encode()
        assert refusal(changed)


def test_spaces_in_an_envelope_are_no_entry_of_ours() -> None:
    spaced = LOG[2][1].replace(b'{"schema":1', b'{ "schema":1')
    assert "envelope was changed" in refusal(spaced)


def test_a_field_that_is_not_known_here_stops_the_reader_where_the_entry_would_count() -> None:
    event = json.loads(LOG[2][1])["event"]

    def with_more(**changed: object) -> bytes:
        payload = json.dumps({**event, **changed, "approved_by": "bo"}, separators=(",", ":")).encode()
        name = identify("control", payload, ROOT, ROOT).hex()
        return (
            f'{{"schema":1,"flags":0,"id":"{name}","causation":"{"0" * 32}","correlation":"{name}","event":'.encode()
            + payload
            + b"}"
        )

    with pytest.raises(ControlError, match="3-0 extends the log as version 3, but it says more than this release"):
        read(LOG[:2]).take("3-0", with_more())
    assert "says more" in refusal(with_more(previous="d" * 64))


def test_a_hole_in_versions_and_ids_stops_the_reader_and_names_both() -> None:
    with pytest.raises(ControlError, match=r"versions 3 to 3 are gone, and so are the ids between 2-0 and 4-0"):
        read([*LOG[:2], *LOG[3:]])


def test_entries_upon_one_that_does_not_fit_stop_the_reader() -> None:
    edited = (LOG[1][0], encode("control", replace(entries()[1], reason="as I like it")).data)
    with pytest.raises(ControlError, match="4-0 was written upon entry 3-0, which does not fit"):
        read([LOG[0], edited, *LOG[2:]])


def test_old_entries_again_never_stop_a_reader() -> None:
    again = [(f"{place}-0", data) for place, (_, data) in enumerate([*LOG, *LOG, *LOG], start=1)]
    reader = read(again)
    assert reader.state.version == 5
    assert len(reader.refused) == 10


def test_an_intruders_entry_may_be_deleted_later() -> None:
    with_it = [*LOG[:2], ("3-0", b"{}"), *((f"{place}-0", data) for place, (_, data) in enumerate(LOG[2:], start=4))]
    without = [each for each in with_it if each[0] != "3-0"]
    assert read(with_it).state == read(without).state


# Keys


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Signer]:
    """``ada`` will be trusted, ``mallory`` will not."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ada", "mallory"):
        generate(folder / f"{name}.pem")
    return {name: load_private(folder / f"{name}.pem") for name in ("ada", "mallory")}


def closed(signers: dict[str, Signer]) -> list[CommandRecorded]:
    """A log that accepts signed commands only: its first two entries trust ``ada``."""
    state, made = EMPTY, list[CommandRecorded]()
    commands: list[Command] = [Found(1, "log-of-a-test"), TrustKey("ada", signers["ada"].public_key, "Ada")]
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=f"c{number}", actor="ada", reason="test", at=number)
        assert isinstance(entry, CommandRecorded)
        made.append(entry)
        state = fold(state, entry)
    return made


def forged(entry: CommandRecorded, signer: Signer | None, **changed: object) -> CommandRecorded:
    unsigned = replace(entry, **changed, key=signer.key_id if signer else None, signature=None)
    return unsigned if signer is None else replace(unsigned, signature=sign(canonical(unsigned), signer))


def unknown(entry: CommandRecorded, signer: Signer | None) -> bytes:
    """The entry as a release writes it that knows one more field."""
    unsigned = replace(entry, key=signer.key_id if signer else None, signature=None)
    event = canonical(unsigned).replace(b'"command_id"', b'"approved_by":"bo","command_id"')
    if signer is not None:
        event = event[:-1] + f',"signature":"{sign(event, signer)}"}}'.encode()
    name = identify("control", event, ROOT, ROOT).hex()
    head = f'{{"schema":1,"flags":0,"id":"{name}","causation":"{"0" * 32}","correlation":"{name}","event":'
    return head.encode() + event + b"}"


@pytest.mark.parametrize("who", ["nobody", "mallory"])
def test_an_entry_that_no_trusted_key_signed_never_stops_a_reader(who: str, signers: dict[str, Signer]) -> None:
    """A service's user may append to control; without a key it must not stop an installation."""
    first, second = closed(signers)
    signer = signers.get(who)
    state = read([(f"{entry.version}-0", encode("control", entry).data) for entry in (first, second)]).state
    following = replace(second, version=3, previous=state.head, command_id="c3", command=Halt())
    later = forged(following, signer, version=9)
    orphan = forged(following, signer, previous="e" * 64)
    upon = forged(following, signer, version=4, previous=head_of(orphan))
    log = [(f"{entry.version}-0", encode("control", entry).data) for entry in (first, second)]
    log += [
        ("3-0", unknown(following, signer)),
        ("90-0", encode("control", later).data),
        ("91-0", encode("control", orphan).data),
        ("92-0", encode("control", upon).data),
    ]
    reader = read(log)
    assert len(reader.refused) == 4
    assert reader.state == state


def test_an_entry_that_a_trusted_key_signed_stops_a_reader_that_cannot_read_it_or_misses_others(
    signers: dict[str, Signer],
) -> None:
    first, second = closed(signers)
    log = [(f"{entry.version}-0", encode("control", entry).data) for entry in (first, second)]
    state = read(log).state
    following = replace(second, version=3, previous=state.head, command_id="c3", command=Halt())
    with pytest.raises(ControlError, match="extends the log as version 3"):
        read([*log, ("3-0", unknown(following, signers["ada"]))])
    with pytest.raises(ControlError, match="versions 3 to 8 are gone"):
        read([*log, ("90-0", encode("control", forged(following, signers["ada"], version=9)).data)])
    orphan = forged(following, signers["ada"], previous="e" * 64)
    upon = forged(following, signers["ada"], version=4, previous=head_of(orphan))
    with pytest.raises(ControlError, match="was written upon entry 3-0"):
        read([*log, ("3-0", encode("control", orphan).data), ("4-0", encode("control", upon).data)])


def test_a_key_that_is_no_text_is_no_signature(signers: dict[str, Signer]) -> None:
    first, second = closed(signers)
    log = [(f"{entry.version}-0", encode("control", entry).data) for entry in (first, second)]
    following = replace(second, version=3, previous=read(log).state.head, command_id="c3", command=Halt())
    data = unknown(following, signers["ada"]).replace(b'"key":"ada"', b'"key":[1]')
    assert len(read([*log, ("3-0", data)]).refused) == 1


def test_the_bytes_of_refused_entries_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "KEPT", 10_000)
    reader = read([(f"{number}-0", b"x" * 4_000) for number in range(1, 50)])
    assert len(reader.refused) == 49
    assert sum(len(refused.data) for refused in reader.refused) <= 10_000 + 49 * reader_module.KEPT_LATER
