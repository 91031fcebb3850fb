"""Unpickling of tensors, plain data and stand-ins for torch before 2.7, whose weights-only unpickler knows no stand-ins.

A module with ``Unpickler`` and ``load`` is what ``torch.load`` asks of an unpickler. It takes the
instructions that torch's takes, and no others: keyword arguments, for one, reach constructors that
believe a file's word for an address.
"""

import _codecs
import pickle
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

INSTRUCTIONS = (
    'APPEND APPENDS BINFLOAT BINGET BININT BININT1 BININT2 BINPERSID BINPUT BINUNICODE BUILD EMPTY_DICT EMPTY_LIST '
    'EMPTY_SET EMPTY_TUPLE GLOBAL LONG1 LONG_BINGET LONG_BINPUT MARK NEWFALSE NEWOBJ NEWTRUE NONE PROTO REDUCE SETITEM '
    'SETITEMS SHORT_BINSTRING STOP TUPLE TUPLE1 TUPLE2 TUPLE3'
).split()
LATER_KNOWN = {
    '_codecs.encode': _codecs.encode,
    'builtins.bytearray': bytearray,
    'builtins.complex': complex,
    'builtins.set': set,
    'collections.Counter': Counter,
    'torch.device': torch.device,
}  # to torch after 2.1
STAND_INS: ContextVar[dict[str, Any]] = ContextVar('stand-ins', default={})


class Unpickler(pickle._Unpickler):  # in Python, since C's has no say in BUILD
    """Finds what torch's weights-only unpickler finds, and what ``building`` was given besides."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises:
        pickle.UnpicklingError: The name is none of the known ones.
        """
        module = 'builtins' if module == '__builtin__' else module  # as protocol 2 calls it
        try:
            return _known()[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(f'Unsupported global: {module}.{name}') from None

    def load_build(self) -> None:
        """Set an instance's state. Classes and functions have none to set: that would change the process.

        Raises:
            pickle.UnpicklingError: The state of anything else than an instance of a known class
                itself: numpy's dtypes of objects and of records are kinds of a known one, and their
                    state says what is an address.
        """
        built = self.stack[-2]
        if type(built) not in _known().values():
            raise pickle.UnpicklingError(f'Unsupported state of {built!r:.100}')
        super().load_build()

    def _refuse(self) -> None:
        raise pickle.UnpicklingError('Unsupported instruction')

    dispatch = {
        **dict.fromkeys(pickle._Unpickler.dispatch, _refuse),
        **{
            code: pickle._Unpickler.dispatch[code]
            for code in (getattr(pickle, name)[0] for name in INSTRUCTIONS)
        },
        pickle.BUILD[0]: load_build,
    }


def _known() -> dict[str, Any]:
    return {
        **LATER_KNOWN,
        **torch._weights_only_unpickler._get_allowed_globals(),
        **STAND_INS.get(),
    }


def load(file: Any, *, encoding: str = 'ASCII') -> Any:
    return Unpickler(file, encoding=encoding).load()


@contextmanager
def building(stand_ins: dict[str, Any]) -> Iterator[None]:
    """Have ``torch.load(weights_only=True)`` build stand-ins, too.

    Args:
        stand_ins: By the full name that a file uses, the object that is used for it.
    """
    torchs, token = torch.serialization._weights_only_unpickler, STAND_INS.set(stand_ins)
    torch.serialization._weights_only_unpickler = sys.modules[__name__]
    try:
        yield
    finally:
        torch.serialization._weights_only_unpickler = torchs
        STAND_INS.reset(token)
