"""Whether Triton's interpreter works here at all: ``TRITON_INTERPRET=1 python THIS_FILE``.

Some versions do not go with some of numpy: 3.1 needs numpy 1, or it loads and stores nothing;
3.6 needs numpy below 2.4, or a loop cannot end at an argument.
"""

from functools import cache

import numpy
import torch
import triton
import triton.language as tl


@triton.jit
def _add_up(x, out, count, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    total = tl.zeros((SIZE,), tl.float32)
    for _ in range(0, count):
        total += tl.load(x + place, mask=place < count, other=0.0)
    tl.store(out + place, total)


@cache
def why_not_interpreted() -> str:
    """What is wrong with the interpreter, in a sentence; empty if nothing."""
    out = torch.full((4,), -1.0)
    try:
        _add_up[(1,)](torch.ones(4), out, 3, SIZE=4)
    except Exception as error:
        found = repr(error)
    else:
        found = '' if out.tolist() == [3, 3, 3, 0] else f'three times one is {out.tolist()}'
    versions = f'the interpreter of Triton {triton.__version__} with numpy {numpy.__version__}'
    return found and f'{versions} does not work: {found[:200]}'


if __name__ == '__main__':
    print(why_not_interpreted())
