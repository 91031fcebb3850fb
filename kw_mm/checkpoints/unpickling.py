"""Unpickling of tensors and plain data; what else checkpoints hold becomes inert stand-ins.

The module has what torch's readers ask of a pickle module: ``Unpickler`` and ``load``. It does what
torch's own weights-only unpickler does, which knows no stand-ins before torch 2.7 and whose list of
names is shared by the whole process: it takes the same instructions and no others (keyword
arguments, for one, reach constructors that believe a file's word for an address) and applies them
to the same kinds of objects.
"""

import _codecs
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any, BinaryIO

import numpy as np
import torch

INSTRUCTIONS = (
    'APPEND APPENDS BINFLOAT BINGET BININT BININT1 BININT2 BINPERSID BINPUT BINUNICODE BUILD '
    'EMPTY_DICT EMPTY_LIST EMPTY_SET EMPTY_TUPLE GLOBAL LONG1 LONG_BINGET LONG_BINPUT MARK '
    'NEWFALSE NEWOBJ NEWTRUE NONE PROTO REDUCE SETITEM SETITEMS SHORT_BINSTRING STOP TUPLE TUPLE1 '
    'TUPLE2 TUPLE3'
).split()
DICTS, LISTS = (dict, OrderedDict, Counter), (list,)
LATER_KNOWN = {
    '_codecs.encode': _codecs.encode,
    'builtins.bytearray': bytearray,
    'builtins.complex': complex,
    'builtins.set': set,
    'collections.Counter': Counter,
    'torch.device': torch.device,
    **{f'torch.{name}': kind for name, kind in vars(torch).items() if type(kind) is torch.dtype},
}  # to torch after 2.1
# their constructors believe the indices in a file, which torch checks in those it rebuilds itself
UNCHECKED = 'torch.sparse.'


class Refused(pickle.UnpicklingError):
    """A file asks for more than tensors, plain data and stand-ins."""


class Inert:
    """Stands in for a class whose instances are of no use to weights."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def inert(*args, **kwargs) -> None:
    """Stands in for a function that a checkpoint names."""


STAND_INS = {
    'mmengine.logging.history_buffer.HistoryBuffer': Inert,
    'argparse.Namespace': Inert,
    'builtins.getattr': inert,
}


class Unpickler(pickle._Unpickler):  # in Python: C's has no say in single instructions
    """Builds tensors, plain data and stand-ins.

    Args:
        file: Where to read from.
        encoding: Of byte strings.
    """

    def __init__(self, file: BinaryIO, *, encoding: str = 'ASCII'):
        super().__init__(file, encoding=encoding)
        self._named = known_names()
        self._known = {id(known) for known in self._named.values()}

    def find_class(self, module: str, name: str) -> Any:
        """The object that is used for a name.

        Raises:
            Refused: The name is none of the known ones.
        """
        module = 'builtins' if module == '__builtin__' else module  # as protocol 2 calls it
        try:
            return self._named[f'{module}.{name}']
        except KeyError:
            raise Refused(f'Unsupported global: {module}.{name}') from None

    def _check_known(self, value: Any) -> None:
        if id(value) not in self._known:
            raise Refused(f'Unsupported use of {value!r:.100}')

    def load_reduce(self) -> None:
        self._check_known(self.stack[-2])
        super().load_reduce()

    def load_newobj(self) -> None:
        self._check_known(self.stack[-2])
        super().load_newobj()

    def load_build(self) -> None:
        """Set an instance's state; that of classes and functions would change the process.

        Only of known classes themselves: numpy's dtypes of objects and of records are kinds of a
        known one, and their state says what is an address.
        """
        built = self.stack[-2]
        if id(type(built)) not in self._known:
            raise Refused(f'Unsupported state of {built!r:.100}')
        super().load_build()

    def load_binpersid(self) -> None:
        reference = self.stack[-1]
        kind = reference[0] if isinstance(reference, tuple) and reference else None
        if kind not in ('storage', b'storage'):
            raise Refused(f'Unsupported reference: {reference!r:.100}')
        super().load_binpersid()

    def _refuse(self) -> None:
        raise Refused('Unsupported instruction')


def _into(kinds: tuple[type, ...], instruction: str, marked: bool) -> Callable[[Unpickler], None]:
    """An instruction that fills a container, of these kinds only."""
    fill = getattr(pickle._Unpickler, f'load_{instruction.lower()}')
    operands = 2 if instruction == 'SETITEM' else 1

    def checked(unpickler: Unpickler) -> None:
        container = unpickler.metastack[-1][-1] if marked else unpickler.stack[-1 - operands]
        if type(container) not in kinds:
            raise Refused(f'Unsupported container: {type(container).__name__}')
        fill(unpickler)

    return checked


def _dispatch() -> dict[int, Callable[[Unpickler], None]]:
    checked = dict(
        REDUCE=Unpickler.load_reduce,
        NEWOBJ=Unpickler.load_newobj,
        BUILD=Unpickler.load_build,
        BINPERSID=Unpickler.load_binpersid,
        SETITEM=_into(DICTS, 'SETITEM', marked=False),
        SETITEMS=_into(DICTS, 'SETITEMS', marked=True),
        APPEND=_into(LISTS, 'APPEND', marked=False),
        APPENDS=_into(LISTS, 'APPENDS', marked=True),
    )
    usual = pickle._Unpickler.dispatch
    codes = {name: getattr(pickle, name)[0] for name in INSTRUCTIONS}
    taken = {code: checked.get(name, usual[code]) for name, code in codes.items()}
    return {**dict.fromkeys(usual, Unpickler._refuse), **taken}


Unpickler.dispatch = _dispatch()


def load(file: BinaryIO, *, encoding: str = 'ASCII') -> Any:
    """Unpickle what a file holds.

    Raises:
        Refused: It asks for more than tensors, plain data and stand-ins.
    """
    return Unpickler(file, encoding=encoding).load()


def known_names() -> dict[str, Any]:
    """By the full name that a file uses, the object that is used for it.

    Names that the process's owner has marked by ``torch.serialization.add_safe_globals`` are known
    too, where nothing stands in for them.
    """
    marked = getattr(torch._weights_only_unpickler, '_get_user_allowed_globals', dict)()
    return {**marked, **_always_known()}


@cache
def _always_known() -> dict[str, Any]:
    torchs = {
        name: known
        for name, known in torch._weights_only_unpickler._get_allowed_globals().items()
        if not name.startswith(UNCHECKED)
    }
    return {**LATER_KNOWN, **torchs, **_numpys(), **STAND_INS}


def _numpys() -> dict[str, Any]:
    # whatever numpy calls its modules
    rebuild = [value.__reduce__()[0] for value in (np.empty(0), np.float64())]
    functions = {
        f'{core}.multiarray.{function.__name__}': function
        for core in ('numpy.core', 'numpy._core')
        for function in rebuild
    }
    codes = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u4', 'u8', '?', 'U1')
    dtypes = {type(np.dtype(code)) for code in codes}
    types = (np.ndarray, np.dtype, *dtypes)
    return {**functions, **{f'{kind.__module__}.{kind.__qualname__}': kind for kind in types}}
