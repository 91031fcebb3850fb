"""Where a forward pass of a network with kernel warehouses spends its time."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..warehouse import KWLayer, kw_layers

PARTS = ('attention', 'assembly', 'convolution', 'rest')


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

    def around(self, name: str, call: Callable) -> Callable:
        """The same call, timed."""

        def timed(*args, **kwargs):
            begin = self.now()
            result = call(*args, **kwargs)
            self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - begin
            return result

        return timed


@torch.no_grad()
def profile_forward(model: nn.Module, images: Tensor, repetitions: int = 5) -> dict[str, float]:
    """Median seconds of each part of a forward pass.

    Args:
        model: A network with KW layers.
        images: Its input, shape (B, 3, H, W).
        repetitions: Timed passes, after a warm-up.

    Returns:
        dict: ``attention`` is the branches; ``assembly`` the mixing of cells and putting kernels in
            order; ``convolution`` what remains of KW layers: pooling and the per-image
            convolutions; ``rest`` everything outside them.

    Raises:
        ValueError: A network without KW layers.
    """
    layers = kw_layers(model).values()
    if not layers:
        raise ValueError(f'{type(model).__name__} has no kernel warehouses to profile')
    clock, runs = Clock(images.device), []
    for layer in layers:
        _watch(layer, clock)
    whole = clock.around('whole', model)
    for _ in range(repetitions + 1):
        clock.seconds = {}
        whole(images)
        runs.append(_parts(clock.seconds))
    for layer in layers:
        for name in ('weigh', 'assemble', 'forward'):
            delattr(layer, name)
    return {part: statistics.median(run[part] for run in runs[1:]) for part in PARTS}


def print_profile(parts: Mapping[str, float]) -> None:
    """Print one line about what :func:`profile_forward` found."""
    whole = sum(parts.values())
    shares = (f'{part} {1e3 * s:.1f} ms ({s / whole:.0%})' for part, s in parts.items())
    print(f'fast forward pass: {", ".join(shares)}')


def _watch(layer: KWLayer, clock: Clock) -> None:
    layer.weigh = clock.around('attention', layer.weigh)
    layer.assemble = clock.around('assembly', layer.assemble)
    layer.forward = clock.around('layers', layer.forward)


def _parts(seconds: dict[str, float]) -> dict[str, float]:
    attention, assembly, layers = (seconds[name] for name in ('attention', 'assembly', 'layers'))
    return dict(
        attention=attention,
        assembly=assembly,
        convolution=layers - attention - assembly,
        rest=seconds['whole'] - layers,
    )
