"""Options that are chosen by name."""
from typing import Any, Collection


def check_choice(option: str, value: Any, choices: Collection) -> None:
    """Check a named option.

    Raises:
        ValueError: A value that is none of the choices; it names them.
    """
    if value not in choices:
        raise ValueError(f'{option}={value!r} is unknown; choose one of {", ".join(map(repr, choices))}')
