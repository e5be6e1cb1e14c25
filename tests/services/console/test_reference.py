"""The page of commands says what the commands say."""

from services.console.reference import PAGE, page


def test_the_page_of_commands_is_fresh() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"
