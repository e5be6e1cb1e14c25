"""Keys: from the first trusted one on, only who holds one may command, and only what it may."""

import json
from pathlib import Path
from typing import Any

WHY = ("--reason", "a test", "--actor", "ada")


def made(desk: Any, file: Path) -> str:
    ended = desk("keys", "new", str(file))
    assert ended.code == 0
    return str(ended.out.strip())


def test_without_keys_the_installation_says_that_it_is_open(two: Any) -> None:
    assert "everyone with access to the log may issue commands" in two("keys", "list").out
    assert json.loads(two("keys", "list", "-o", "json").out) == {"open": True, "keys": [], "revoked": []}
    assert "open: everyone with access to the log" in two("status").out


def test_from_the_first_key_on_every_command_is_signed_by_one_who_may(two: Any, tmp_path: Path) -> None:
    ada, guard = tmp_path / "ada.pem", tmp_path / "guard.pem"
    public = made(two, ada)
    assert two("keys", "trust", "ada", public, "--holder", "Ada", *WHY).code == 0
    assert two("halt", *WHY).code == 1
    assert two("halt", "--key", str(ada), *WHY).code == 0

    made(two, guard)
    words = ("keys", "trust", "guard", str(guard), "--holder", "the guard", "--may", "halt", *WHY)
    assert two(*words).code == 1
    assert two(*words, "--key", str(ada)).code == 0
    assert two("resume", "--key", str(guard), *WHY).code == 1
    assert two("resume", "--key", str(ada), *WHY).code == 0
    assert two("halt", "--key", str(guard), *WHY).code == 0

    shown = two("keys", "list").out
    assert public in shown
    assert "the guard" in shown
    assert "guard" in two("history").out.splitlines()[-2]
    assert two("keys", "revoke", "ada", "--key", str(ada), *WHY).code == 1
    assert two("keys", "revoke", "guard", "--key", str(ada), *WHY).code == 0
    assert two("resume", "--key", str(guard), *WHY).code == 1
    assert json.loads(two("keys", "list", "-o", "json").out)["revoked"] == ["guard"]


def test_what_is_no_key_is_refused(two: Any, tmp_path: Path) -> None:
    file = tmp_path / "ada.pem"
    made(two, file)
    assert two("keys", "new", str(file)).code == 2
    noise = tmp_path / "noise.pem"
    noise.write_text("noise")
    noise.chmod(0o600)
    assert two("halt", "--key", str(noise), *WHY).code == 2
    assert two("halt", "--key", str(tmp_path / "none.pem"), *WHY).code == 2
    assert two("keys", "trust", "Ada!", "ab" * 32, "--holder", "Ada", *WHY).code == 2
    assert two("keys", "trust", "ada", "ab" * 32, "--holder", "Ada", "--may", "fly", *WHY).code == 1


def test_a_file_is_published_under_a_key(two: Any, tmp_path: Path) -> None:
    key = tmp_path / "ada.pem"
    assert two("keys", "trust", "ada", made(two, key), "--holder", "Ada", *WHY).code == 0
    command = {"command": {"type": "halt"}, "actor": "ada", "reason": "a test", "command_id": "one"}
    (tmp_path / "halt.json").write_text(json.dumps(command))
    assert two("issue", str(tmp_path / "halt.json")).code == 1
    assert two("issue", str(tmp_path / "halt.json"), "--key", str(key)).code == 0
