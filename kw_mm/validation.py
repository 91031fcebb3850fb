"""Checking options, and the words of errors: names that come close, long lists cut short."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from numbers import Real
from typing import Any


def check_choice(option: str, value: Any, choices: Collection) -> None:
    """Check a named option.

    Raises:
        ValueError: A value that is none of the choices; it names them.
    """
    if value not in choices:
        raise ValueError(
            f'{option} must be one of {", ".join(map(repr, choices))}, got {option}={value!r}'
        )


def check_flag(option: str, value: Any) -> None:
    """Raises ValueError for a switch that is neither True nor False, such as the string 'no'."""
    if not isinstance(value, bool):
        raise ValueError(f'{option} must be True or False, got {option}={value!r}')


def check_pair(option: str, value: Any) -> None:
    """Raises ValueError for anything but two numbers."""
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2
        or not all(isinstance(part, Real) for part in value)
    ):
        raise ValueError(
            f'{option} must be a pair of numbers, got {option}={value!r}; (1, 1) and (0.5, 0.5) '
            'are the published ones'
        )


def check_positive(option: str, value: Any, usual: str) -> None:
    """Raises ValueError for anything but a finite positive number; `usual` says what would work."""
    is_number = isinstance(value, (Real, Fraction)) and not isinstance(value, bool)
    if not is_number or not 0 < value < float('inf'):
        raise ValueError(f'{option} must be a positive number, got {option}={value!r}; {usual}')


def check_count(option: str, value: Any, usual: str) -> None:
    """Raises ValueError for anything but a positive integer; `usual` says what would work."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'{option} must be a positive integer, got {option}={value!r}; {usual}')


def closest(name: str, known: Iterable[str], most: int = 3, cutoff: float = 0.5) -> list[str]:
    """The known names that come closest to a misspelt one; empty where none does.

    Args:
        name: What was written.
        known: What could have been meant.
        most: How many names to return at most.
        cutoff: How alike a name must be, from 0 (anything) to 1 (the same).
    """
    return difflib.get_close_matches(name, list(known), n=most, cutoff=cutoff)


def few(items: Sequence[Any], most: int = 3) -> str:
    """The first items of a list in words: 'a, b, c and 4 more'."""
    rest = f' and {len(items) - most} more' if len(items) > most else ''
    return ', '.join(map(str, items[:most])) + rest
