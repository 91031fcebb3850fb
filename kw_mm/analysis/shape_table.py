"""What each computation takes for each layer shape of a network: convolution, mixing, attention.

Every other choice on a GPU follows from this table; its conclusions belong into
:mod:`kw_mm.ops.backends.cuda_limits`.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import one_line
from ..ops import Backend, Geometry, use_backend
from ..ops.backends import backend_called, why_no_triton
from ..ops.backends.cuda import multiply_windows
from ..ops.backends.in_turn import convolve_in_turn
from ..ops.backends.torch import multiply_patches, pointwise, strided
from ..ops.mix import CellGradients, SharedCells
from ..ops.reference import grouped_conv2d
from ..warehouse import KernelAttention, KWConv2d, kw_layers
from .gpu_benchmarking import forget, markdown, milliseconds
from .variants import DTYPES, Setting, build

CACHE_BYTES = 256 * 2**20  # overwritten between runs, so that none begins with its data in a cache
PASSES = ('forward', 'by features', 'by kernels')


class LayerShape(NamedTuple):
    """One distinct layer: its convolution, where it looks, and how its kernel is mixed.

    Args:
        in_channels, out_channels: Of the layer.
        geometry: Of its convolution.
        size: (H, W) of its input.
        count: Layers of this shape in the network.
        layer: One of them.
    """

    in_channels: int
    out_channels: int
    geometry: Geometry
    size: tuple[int, int]
    count: int
    layer: KWConv2d

    @property
    def words(self) -> str:
        """Such as '64 -> 64, 3 x 3 / 2, 200 x 336'."""
        (kh, kw), step = self.geometry.kernel_size, self.geometry.stride[0]
        down = f' / {step}' if step > 1 else ''
        groups = f', groups {self.geometry.groups}' if self.geometry.groups > 1 else ''
        return (
            f'{self.in_channels} -> {self.out_channels}, {kh} x {kw}{down}{groups}, '
            f'{self.size[0]} x {self.size[1]}'
        )


class Timing(NamedTuple):
    """Median milliseconds of one computation; NaN with a reason where it failed."""

    shape: LayerShape
    part: str
    way: str
    order: str
    ms: float
    failed: str = ''


def layer_shapes(setting: Setting) -> list[LayerShape]:
    """The distinct layers of a network for an image size: 3x3 ones first, then by positions."""
    model, seen = build(setting._replace(device='cpu', batch=1), 'fast').eval(), {}
    handles = []

    def note(layer: KWConv2d, inputs: tuple[Tensor, ...]) -> None:
        size = tuple(inputs[0].shape[2:])
        key = layer.in_channels, layer.out_channels, layer.geometry, size
        seen.setdefault(key, []).append(layer)

    for layer in kw_layers(model).values():
        if isinstance(layer, KWConv2d):
            handles.append(layer.register_forward_pre_hook(note))
    with torch.no_grad():
        model.to('meta')(torch.empty(1, 3, *setting.size, device='meta'))
    for handle in handles:
        handle.remove()
    shapes = [LayerShape(*key, len(layers), layers[0]) for key, layers in seen.items()]
    return sorted(shapes, key=lambda one: (one.geometry.is_pointwise, -one.size[0] * one.size[1]))


def time_shapes(
    setting: Setting,
    repetitions: int,
    *,
    minutes: float = float('inf'),
    orders: Sequence[str] = ('nhwc', 'nchw'),
    after_each: Callable[[list[Timing]], None] = lambda found: None,
) -> list[Timing]:
    """Time every computation of every distinct layer shape of a network.

    Args:
        setting: Network, batch, image size, dtype and device.
        repetitions: Timed runs of each.
        minutes: When to begin no further shape.
        orders: Memory orders of the features.
        after_each: Called after each shape with everything timed so far.
    """
    shapes, found = layer_shapes(setting), []
    end = time.monotonic() + 60 * minutes
    for shape in shapes:
        if time.monotonic() > end:
            break
        for order in orders:
            found += convolution_times(shape, setting, order, repetitions)
        found += mixing_times(shape, setting, repetitions)
        found += attention_times(shape, setting, repetitions)
        after_each(found)
        forget(setting.device)
    return found


def convolution_times(
    shape: LayerShape, setting: Setting, order: str, repetitions: int
) -> list[Timing]:
    """Forward, and both gradients, of every way to convolve images with kernels of their own."""
    dtype, device = DTYPES[setting.dtype], setting.device
    x = torch.randn(setting.batch, shape.in_channels, *shape.size, device=device, dtype=dtype)
    if order == 'nhwc':
        x = x.contiguous(memory_format=torch.channels_last)
    out, per_group, *size = shape.layer.partition.kernel_shape
    stored = torch.randn(setting.batch, out, *size, per_group, device=device, dtype=dtype)
    kernels = stored.permute(0, 1, 4, 2, 3)
    memory = torch.channels_last if order == 'nhwc' else torch.contiguous_format
    one_kernel = kernels[0].contiguous(memory_format=memory)
    found = []
    for way, convolve in ways_to_convolve(shape, device).items():
        given = one_kernel if way == 'plain' else kernels
        found += _passes(shape, way, order, convolve, x, given, device, repetitions)
    return found


def triton_runs(device: str) -> bool:
    """Whether Triton's kernels run on a device; on a CPU they need its interpreter."""
    return not why_no_triton() and ('cuda' in device or os.environ.get('TRITON_INTERPRET') == '1')


def ways_to_convolve(
    shape: LayerShape, device: str
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """``way -> function of features and kernels``; 'plain' takes one kernel for all images."""
    geometry = shape.geometry
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        'plain': lambda x, k: F.conv2d(
            x, k, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups
        ),
        'grouped': lambda x, k: grouped_conv2d(x, k, None, geometry),
    }
    if geometry.groups == 1 and geometry.pads is not None:
        ways['in turn'] = lambda x, k: convolve_in_turn(x, k, None, geometry)
        if geometry.is_pointwise:
            ways['bmm'] = lambda x, k: pointwise(strided(x, geometry), k, None)
        else:
            ways['patches'] = lambda x, k: (
                multiply_windows if x.stride(1) == 1 else multiply_patches
            )(x, k, None, geometry)
        if triton_runs(device):
            ways['triton'] = lambda x, k: triton_conv(x, k, geometry)
    return ways


def triton_conv(x: Tensor, kernels: Tensor, geometry: Geometry) -> Tensor:
    """Triton's convolution, whatever the size of the map."""
    from ..ops.triton_ops.conv_kernels import ConvolveEagerly

    pads = geometry.pads or (0, 0)
    spans = [*geometry.stride, *pads, *geometry.dilation]
    return ConvolveEagerly.apply(x, kernels, None, spans)


def _passes(
    shape: LayerShape,
    way: str,
    order: str,
    convolve: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    kernels: Tensor,
    device: str,
    repetitions: int,
) -> Iterator[Timing]:
    """Forward by itself; gradients as backward passes for one of the inputs."""
    for part in PASSES:
        features = x.detach().requires_grad_(part == 'by features')
        weights = kernels.detach().requires_grad_(part == 'by kernels')
        try:
            if part == 'forward':
                ms = median_time(lambda: convolve(x, kernels), device, repetitions)
            else:
                out = convolve(features, weights)
                grad, leaf = torch.randn_like(out), features if part == 'by features' else weights
                back = _backward_of(out, leaf, grad)
                ms = median_time(back, device, repetitions)
                del out, grad, back
        except Exception as error:
            yield Timing(shape, part, way, order, float('nan'), one_line(error)[:120])
        else:
            yield Timing(shape, part, way, order, ms)


def _backward_of(out: Tensor, leaf: Tensor, grad: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(out, leaf, grad, retain_graph=True)


def mixing_times(shape: LayerShape, setting: Setting, repetitions: int) -> list[Timing]:
    """Mixing forward, and with both gradients, in every backend."""
    partition, device = shape.layer.partition, setting.device
    stored = torch.empty_like(shape.layer.cells, device=device).normal_()
    shape_of_alpha = setting.batch, partition.num_mixtures, len(stored)
    alpha = torch.randn(shape_of_alpha, device=device).requires_grad_()
    cells = stored.requires_grad_()
    shared = SharedCells(cells, CellGradients())

    def mix(backend: Backend) -> Tensor:
        with torch.autocast(torch.device(device).type, DTYPES[setting.dtype], half(setting)):
            return backend.kernels(alpha, shared, partition)

    found = []
    for way, backend in ways_to_mix(device).items():
        try:
            with torch.no_grad():
                ms = median_time(lambda one=backend: mix(one), device, repetitions)
            found.append(Timing(shape, 'mixing', way, '', ms))
            out = mix(backend)
            grad = torch.randn_like(out)

            def back(out: Tensor = out, grad: Tensor = grad) -> object:
                return torch.autograd.grad(out, [alpha, cells], grad, retain_graph=True)

            ms = median_time(back, device, repetitions)
            found.append(Timing(shape, 'mixing, gradients', way, '', ms))
        except Exception as error:
            found.append(Timing(shape, 'mixing', way, '', float('nan'), one_line(error)[:120]))
    return found


def ways_to_mix(device: str) -> dict[str, Backend]:
    """The backends whose mixing differs."""
    found: dict[str, Any] = {'torch': backend_called('torch')}
    if triton_runs(device):
        found['triton'] = backend_called('triton-conv')  # mixes in float32, too
    return found


def attention_times(shape: LayerShape, setting: Setting, repetitions: int) -> list[Timing]:
    """An attention branch after pooling, forward and backward, in every backend."""
    device = setting.device
    branch: KernelAttention = shape.layer.attention
    branch = branch.to_empty(device=device).train(setting.batch > 1)
    for tensor in (*branch.parameters(), *branch.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.1, 1)
    pooled = torch.randn(setting.batch, shape.in_channels, device=device).requires_grad_()
    temperature, found = torch.tensor(0.5, device=device), []
    for way in ways_to_mix(device):
        try:
            with use_backend(way):
                with torch.no_grad():
                    ms = median_time(lambda: branch(pooled, temperature), device, repetitions)
                found.append(Timing(shape, 'attention', way, '', ms))
                out = branch(pooled, temperature)
                leaves, grad = [pooled, *branch.parameters()], torch.randn_like(out)

                def back(
                    out: Tensor = out, leaves: list[Tensor] = leaves, grad: Tensor = grad
                ) -> object:
                    return torch.autograd.grad(out, leaves, grad, retain_graph=True)

                ms = median_time(back, device, repetitions)
                found.append(Timing(shape, 'attention, gradients', way, '', ms))
        except Exception as error:
            found.append(Timing(shape, 'attention', way, '', float('nan'), one_line(error)[:120]))
    return found


def half(setting: Setting) -> bool:
    """Whether the setting is one of mixed precision."""
    return setting.dtype != 'float32'


def median_time(run: Callable[[], object], device: str, repetitions: int) -> float:
    """Median milliseconds of a device's own work, each run with other data in its cache."""
    on_gpu = 'cuda' in device
    cache = torch.empty(CACHE_BYTES if on_gpu else 1, dtype=torch.int8, device=device)
    times = []
    for _ in range(2 if on_gpu else 1):
        run()
    for _ in range(repetitions):
        cache.zero_()
        times.append(milliseconds(run, device, busy=True))
    return statistics.median(times)


def shape_report(found: Sequence[Timing]) -> dict[str, str]:
    """Tables by heading: convolution, mixing, attention."""
    tables = {}
    for part in dict.fromkeys(one.part for one in found):
        here = [one for one in found if one.part == part]
        ways = list(dict.fromkeys(one.way for one in here))
        rows = []
        for shape, order in dict.fromkeys((one.shape, one.order) for one in here):
            by_way = {one.way: one for one in here if (one.shape, one.order) == (shape, order)}
            cells = [_cell(by_way.get(way)) for way in ways]
            rows.append([shape.words, shape.count, order, *cells, _fastest(by_way)])
        tables[f'{part} (ms)'] = markdown(['layer', 'count', 'order', *ways, 'fastest'], rows)
    return tables


def short_shapes(found: Sequence[Timing]) -> str:
    """One row a layer: milliseconds of each way, forward and both gradients together."""
    layers = list(dict.fromkeys((one.shape, one.order) for one in found if one.order))
    ways = list(dict.fromkeys(one.way for one in found if one.order))
    others = list(dict.fromkeys((one.part, one.way) for one in found if not one.order))
    rows = []
    for shape, order in layers:
        cells = [_sum(found, shape, order, PASSES, way) for way in ways]
        cells += [_sum(found, shape, '', (part,), way) for part, way in others]
        rows.append([shape.words, shape.count, order, *cells])
    names = [f'{part}: {way}' for part, way in others]
    return markdown(['layer', 'count', 'order', *ways, *names], rows)


def _sum(
    found: Sequence[Timing], shape: LayerShape, order: str, parts: Sequence[str], way: str
) -> str:
    times = [
        one.ms
        for one in found
        if (one.shape, one.order, one.way) == (shape, order, way) and one.part in parts
    ]
    total = sum(times) if len(times) == len(parts) else float('nan')
    return f'{total:.3f}' if total == total else '-'


def shape_records(found: Sequence[Timing]) -> list[dict[str, Any]]:
    """All numbers, for a file."""
    return [dict(one._asdict(), shape=one.shape.words, count=one.shape.count) for one in found]


def _cell(one: Timing | None) -> str:
    if one is None:
        return ''
    return f'{one.ms:.3f}' if one.ms == one.ms else f'failed: {one.failed}'.replace('|', '/')


def _fastest(by_way: dict[str, Timing]) -> str:
    times = {way: one.ms for way, one in by_way.items() if way != 'plain' and one.ms == one.ms}
    return min(times, key=times.__getitem__) if times else ''
