"""Where a forward pass of a network with kernel warehouses spends its time."""

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..ops import backend_for
from ..warehouse import kw_layers

TIMED_PARTS = ('attention', 'assembly', 'convolution', 'rest')


class Clock:
    """Sums the time of calls by name; on a GPU it waits for the device around each."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = {}

    def now(self) -> float:
        """Seconds since some moment, once the device has done everything asked of it."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def timing(self, owner: Any, method: str, name: str) -> Iterator[None]:
        """Within this context calls of an object's method are timed.

        Args:
            owner: The object; others of its class are left alone.
            method: What to time.
            name: What the time is added to.
        """
        call = getattr(owner, method)

        def timed(*args, **kwargs):
            begin = self.now()
            result = call(*args, **kwargs)
            self.seconds[name] += self.now() - begin
            return result

        setattr(owner, method, timed)
        try:
            yield
        finally:
            delattr(owner, method)


@torch.no_grad()
def profile_forward(model: nn.Module, images: Tensor, repetitions: int = 5) -> dict[str, float]:
    """Median seconds of each part of a forward pass.

    Args:
        model: A network with KW layers.
        images: Its input, shape (B, 3, H, W).
        repetitions: Timed passes, after a warm-up.

    Returns:
        dict: ``attention`` is the branches; ``assembly`` the mixing of cells and putting kernels in
            order, 0 where a backend does that within the convolution; ``convolution`` what remains
            of KW layers: pooling and the per-image convolutions; ``rest`` everything outside them.

    Raises:
        ValueError: A network without KW layers.
    """
    layers = kw_layers(model).values()
    if not layers:
        raise ValueError(f'{type(model).__name__} has no kernel warehouses to profile')
    clock, runs = Clock(images.device), []
    with ExitStack() as stack:
        stack.enter_context(clock.timing(backend_for(images), 'kernels', 'assembly'))
        for layer in layers:
            stack.enter_context(clock.timing(layer, 'weigh', 'attention'))
            stack.enter_context(clock.timing(layer, 'forward', 'layers'))
        stack.enter_context(clock.timing(model, 'forward', 'whole'))
        for _ in range(repetitions + 1):
            clock.seconds = dict.fromkeys(('attention', 'assembly', 'layers', 'whole'), 0.0)
            model(images)
            runs.append(_parts(**clock.seconds))
    return {part: statistics.median(run[part] for run in runs[1:]) for part in TIMED_PARTS}


def print_profile(parts: Mapping[str, float]) -> None:
    """Print one line about what :func:`profile_forward` found."""
    whole = sum(parts.values())
    shares = (f'{part} {1e3 * s:.1f} ms ({s / whole:.0%})' for part, s in parts.items())
    print(f'fast forward pass: {", ".join(shares)}')


def _parts(attention: float, assembly: float, layers: float, whole: float) -> dict[str, float]:
    return dict(
        attention=attention,
        assembly=assembly,
        convolution=layers - attention - assembly,
        rest=whole - layers,
    )
