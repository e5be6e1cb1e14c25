"""`conclave up` and `conclave doctor`: when the bot runs, and which keys it holds on behalf of whom."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.control import Command, CommandRecorded, Found, TrustKey
from services.console.run import service
from services.console.run.installation import PHONE, children_of
from services.phone.main import not_configured
from shared.control import EMPTY, State, fold, propose
from shared.control.signing import generate
from shared.doctor.phone import phone_checks
from shared.settings import PHONE_TOKEN, Installation, PhoneSettings, Settings, SettingsError

PERSONS = PhoneSettings(persons=("1 ada", "2 ben", "3 ada"))


def names(settings: Settings) -> list[str]:
    return [child.name for child in children_of(settings, Path("conclave.toml"))]


def test_an_installation_has_a_bot_where_its_persons_its_token_and_its_extra_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(PHONE_TOKEN, raising=False)
    configured = Settings(phone=PERSONS)
    assert PHONE not in names(configured)
    assert f"no token: set ${PHONE_TOKEN}_FILE" in str(service.missing_phone(configured))
    monkeypatch.setenv(PHONE_TOKEN, "1:x")
    assert PHONE in names(configured)
    assert PHONE not in names(Settings())
    assert service.missing_phone(Settings()) is None
    monkeypatch.delenv(PHONE_TOKEN)
    monkeypatch.setenv(f"{PHONE_TOKEN}_FILE", str(tmp_path / "none"))
    assert PHONE not in names(configured)
    assert "cannot read" in str(service.missing_phone(configured))


def test_without_the_extra_a_sentence_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> Any:
        return None if name == "telegram" else find_spec(name)

    monkeypatch.setattr(service, "find_spec", found)
    assert PHONE not in names(Settings(phone=PERSONS))
    with pytest.raises(SettingsError, match=r"needs python-telegram-bot: pip install '[\w-]+\[phone\]'"):
        service.phone_of()


def test_a_bot_without_persons_or_token_ends_with_what_helps() -> None:
    assert "persons in [phone] names none" in not_configured(Settings(), "1:x")
    assert f"${PHONE_TOKEN}_FILE" in not_configured(Settings(phone=PERSONS), "")
    assert not not_configured(Settings(phone=PERSONS), "1:x")


def trusting(*keys: TrustKey) -> State:
    state = EMPTY
    commands: list[Command] = [Found(1, "log-of-a-test"), *keys]
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=str(number), actor="owner", reason="test", at=number)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
    return state


def test_the_doctor_names_each_person_for_whom_the_server_holds_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PHONE_TOKEN, "1:x")
    settings = Settings(installation=Installation(state=str(tmp_path)), phone=PERSONS)
    folder = tmp_path / "phone"
    folder.mkdir()
    public = generate(folder / "ada.pem")

    def found(state: State) -> dict[str, tuple[str, str]]:
        return {check.what: (check.verdict, check.found) for check in phone_checks(settings, state)}

    held = f"this server holds a private key on behalf of ada: who can read {folder} can sign as ada"
    ben = ("good", f"the server holds no key for ben: there is no {folder / 'ben.pem'}")
    assert found(trusting(TrustKey("x", public, "ada"))) == {
        "phone of ada": ("good", f"{held}: halt, resume, approve, refuse"),
        "phone of ben": ben,
    }
    assert found(trusting())["phone of ada"][0] == "unknown"
    assert "no key is trusted yet" in found(trusting())["phone of ada"][1]
    other = TrustKey("other", "0" * 64, "owner")
    assert "is not trusted" in found(trusting(other))["phone of ada"][1]
    (folder / "ada.pem").chmod(0o644)
    assert "can be read by others" in found(trusting())["phone of ada"][1]
    assert list(phone_checks(msgspec.structs.replace(settings, phone=PhoneSettings()), trusting())) == []
