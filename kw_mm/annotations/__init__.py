"""COCO annotation files, checked by value: what is wrong in one, and how much of it can be used."""

from .counting import Account, count
from .problems import problem_in

__all__ = ['Account', 'count', 'problem_in']
