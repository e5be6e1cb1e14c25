"""The file of those who may sign in: two commands at once lose nothing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared.people import FILE, KEPT, Cause, PeopleFile, Person

WHY = Cause("ada", "a test")


def test_people_who_are_added_at_once_are_all_in_the_file(tmp_path: Path) -> None:
    def add(number: int) -> None:
        PeopleFile(tmp_path / FILE).add(Person(f"p{number}", "viewer"), WHY)
        PeopleFile(tmp_path / FILE).add_token(f"t{number}", "viewer", WHY)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    people = PeopleFile(tmp_path / FILE).people()
    assert len(people.persons) == len(people.tokens) == 40


def test_a_removed_name_is_neither_a_person_nor_a_token_any_more(tmp_path: Path) -> None:
    file = PeopleFile(tmp_path / FILE)
    file.add(Person("ada", "viewer"), WHY)
    token = file.add_token("ada", "operator", WHY)
    assert file.people().of_token(token) is not None
    assert file.remove("ada", WHY)
    assert not file.remove("ada", WHY)
    assert file.people().of_token(token) is None


def test_who_changed_whom_and_why_is_kept_and_what_changed_nothing_is_not(tmp_path: Path) -> None:
    file = PeopleFile(tmp_path / FILE)
    file.add(Person("ben", "operator"), Cause("ada", "on call"))
    file.add_token("robot", "viewer", Cause("ada", "nightly checks"))
    file.remove("cy", Cause("ada", "never here"))
    file.remove("ben", Cause("dan", "left"))
    assert [(each.what, each.actor, each.reason) for each in file.people().changes] == [
        ("ben may sign in as operator", "ada", "on call"),
        ("robot has a token as viewer", "ada", "nightly checks"),
        ("ben may not sign in any more", "dan", "left"),
    ]


def test_the_newest_changes_are_kept_and_a_file_of_an_earlier_release_has_none(tmp_path: Path) -> None:
    file = PeopleFile(tmp_path / FILE)
    file.path.write_text('{"persons": [{"name": "ada", "role": "viewer"}], "tokens": []}')
    assert file.people().changes == ()
    for number in range(KEPT + 2):
        file.add(Person("ada", "viewer"), Cause("me", str(number)))
    assert [file.people().changes[place].reason for place in (0, -1)] == ["2", str(KEPT + 1)]
