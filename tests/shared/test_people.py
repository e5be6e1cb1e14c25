"""The file of those who may sign in: two commands at once lose nothing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared.people import FILE, PeopleFile, Person


def test_people_who_are_added_at_once_are_all_in_the_file(tmp_path: Path) -> None:
    def add(number: int) -> None:
        PeopleFile(tmp_path / FILE).add(Person(f"p{number}", "viewer"))
        PeopleFile(tmp_path / FILE).add_token(f"t{number}", "viewer")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    people = PeopleFile(tmp_path / FILE).people()
    assert len(people.persons) == len(people.tokens) == 40


def test_a_removed_name_is_neither_a_person_nor_a_token_any_more(tmp_path: Path) -> None:
    file = PeopleFile(tmp_path / FILE)
    file.add(Person("ada", "viewer"))
    token = file.add_token("ada", "operator")
    assert file.people().of_token(token) is not None
    assert file.remove("ada")
    assert not file.remove("ada")
    assert file.people().of_token(token) is None
