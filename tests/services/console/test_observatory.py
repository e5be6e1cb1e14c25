"""`conclave up` and `conclave observatory`: what runs it, and what is printed if it cannot run."""

import socket
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.installation import free_port
from services.console.run import service
from services.console.run.installation import OBSERVATORY, children_of
from services.observatory.main import listen
from shared.settings import ObservatorySettings, Settings, SettingsError, address_of


def names(settings: Settings) -> list[str]:
    return [child.name for child in children_of(settings, Path("conclave.toml"))]


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    def found(name: str) -> Any:
        return None if name in missing else find_spec(name)

    monkeypatch.setattr(service, "find_spec", found)


def test_an_installation_has_an_observatory_where_its_extra_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OBSERVATORY in names(Settings())
    assert OBSERVATORY not in names(Settings(observatory=ObservatorySettings(port=0)))
    without(monkeypatch, "litestar")
    assert OBSERVATORY not in names(Settings())


def test_without_the_extra_a_sentence_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "litestar", "uvicorn")
    with pytest.raises(SettingsError, match=r"needs litestar and uvicorn: pip install '[\w-]+\[observatory\]'"):
        service.observatory_of()


def test_a_port_that_is_taken_or_none_is_refused_with_what_helps() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen at 127.0.0.1, port {port}: .* Choose another"):
            listen(ObservatorySettings(port=port))
    with pytest.raises(SettingsError, match=r"port in .observatory. is 0"):
        listen(ObservatorySettings(port=0))


def test_of_two_observatories_that_start_at_one_port_the_second_is_refused_before_it_serves() -> None:
    settings = ObservatorySettings(port=free_port())
    with closing(listen(settings)), pytest.raises(SettingsError, match=f"port {settings.port}: .* Choose another"):
        listen(settings)


def test_who_connects_before_the_first_answer_waits_and_is_not_refused() -> None:
    settings = ObservatorySettings(port=free_port())
    with closing(listen(settings)), socket.create_connection((settings.host, settings.port), timeout=5):
        pass


def test_the_address_is_one_for_a_browser() -> None:
    assert address_of(ObservatorySettings()) == "http://127.0.0.1:8420/"
    assert address_of(ObservatorySettings(host="::1", port=80)) == "http://[::1]:80/"
