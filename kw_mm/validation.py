"""Options that are chosen by name."""

from collections.abc import Collection
from numbers import Real
from typing import Any


def check_choice(option: str, value: Any, choices: Collection) -> None:
    """Check a named option.

    Raises:
        ValueError: A value that is none of the choices; it names them.
    """
    if value not in choices:
        raise ValueError(
            f'{option}={value!r} is unknown; choose one of {", ".join(map(repr, choices))}'
        )


def check_flag(option: str, value: Any) -> None:
    """Raises ValueError for a switch that is neither True nor False, such as the string 'no'."""
    if not isinstance(value, bool):
        raise ValueError(f'{option}={value!r} is neither True nor False')


def check_pair(option: str, value: Any) -> None:
    """Raises ValueError for anything but two numbers."""
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2
        or not all(isinstance(part, Real) for part in value)
    ):
        raise ValueError(
            f'{option}={value!r} is not a pair of numbers; (1, 1) and (0.5, 0.5) are the published ones'
        )
