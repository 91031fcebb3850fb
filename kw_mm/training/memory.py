"""Memory of training on a CPU."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Let glibc keep the memory that large tensors free.

    By default it maps every allocation above 32 MiB anew, and the kernel zeroes each of its pages:
        in a training step
    on a CPU that costs as much as many of the convolutions, plain or dynamic. The process holds on
    to its peak.

    Returns:
        bool: Whether there is a glibc that was told so.
    """
    if not sys.platform.startswith('linux'):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
