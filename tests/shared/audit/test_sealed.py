"""Verifying from sealed files alone: the same findings, and a changed file is named."""

from pathlib import Path

from bench.replayed import Replayed, seal_all
from services.console.audit.tasks import KINDS, Where
from services.console.audit.verify import verified
from shared.audit.source import EntryRange


def test_sealed_files_alone_verify_and_a_flipped_bit_in_one_is_a_difference_of_its_layer(
    replayed: Replayed, tmp_path: Path
) -> None:
    seal_all(replayed, tmp_path)
    where = Where("", str(tmp_path), str(replayed.store.path))
    found = verified(where, EntryRange(), KINDS, 1)
    assert (found.code, found.count) == (0, 0)
    assert found.equal["predictions"] == 3600
    for stream in ("market", "decisions", "control"):
        path = max(path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name == stream)
        data = path.read_bytes()
        path.write_bytes(data[:-40] + bytes([data[-40] ^ 8]) + data[-39:])
        first = verified(where, EntryRange(), KINDS, 1).first
        path.write_bytes(data)
        assert first is not None
        assert first.layer == "file"
        assert f"{stream}/{path.name}" in first.detail
