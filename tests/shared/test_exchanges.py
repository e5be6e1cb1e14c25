"""Keys of exchanges are read from the environment or a file, and are shown nowhere."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.exchanges import CREDENTIALS_FILE, KEY, SECRET, read_credentials, shown
from shared.settings import SettingsError


def test_credentials_are_read_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "binance.toml"
    file.write_text('key = "k"\nsecret = "s"\n')
    assert (
        read_credentials({KEY: "k", SECRET: "s"}) == ("k", "s", "") == read_credentials({CREDENTIALS_FILE: str(file)})
    )
    file.write_text('key = "k"\nsecret = "s"\npassword = "p"\n')
    assert read_credentials({CREDENTIALS_FILE: str(file)}).password == "p"


@pytest.mark.parametrize(
    ("environ", "content"),
    [
        ({}, None),
        ({KEY: "hidden"}, None),
        ({SECRET: "hidden"}, None),
        ({KEY: "hidden", CREDENTIALS_FILE: "FILE"}, ""),
        ({CREDENTIALS_FILE: "FILE"}, None),
        ({CREDENTIALS_FILE: "FILE"}, 'key = "hidden"'),
        ({CREDENTIALS_FILE: "FILE"}, 'key = "hidden'),
        ({CREDENTIALS_FILE: "FILE"}, 'key = ""\nsecret = "hidden"'),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_shown(
    environ: dict[str, str], content: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "keys.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError) as raised:
        read_credentials({name: str(file) if value == "FILE" else value for name, value in environ.items()})
    assert "CONCLAVE_EXCHANGE" in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_credentials_and_signatures_are_not_part_of_a_text() -> None:
    client = SimpleNamespace(apiKey="abc-key", secret="def-secret")
    error = ValueError("GET https://x/order?a=1&signature=0123abcd failed for abc-key with def-secret")
    assert shown(client, error) == "GET https://x/order?a=1&signature=... failed for ... with ..."
    assert "s" not in repr(read_credentials({KEY: "k", SECRET: "s"})).replace("Credentials(...)", "")
