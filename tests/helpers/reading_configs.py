"""Configs of the repository, each read once in a process."""

from copy import deepcopy
from functools import cache

from mmengine.config import Config
from run_tools import ROOT

from kw_mm.run_config import load_config


def read_config(name: str) -> Config:
    """A config below ``configs/`` by its path there, for the caller to change.

    Reading one with all it inherits takes longer than many tests of it.
    """
    return deepcopy(read_only(name))


@cache
def read_only(name: str) -> Config:
    """The same, shared: not to be changed."""
    return load_config(str(ROOT / 'configs' / name))
