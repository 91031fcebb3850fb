"""Measuring dynamic convolution against the plain network, side by side in one run."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, ContextManager, NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import UserError
from ..ops import reference_path

OUTPUTS = dict(r18=(0, 1, 2, 3), r50=(0, 1, 2, 3), mbv2=(1, 2, 4, 7))
STATIC = dict(
    r18=dict(type='StaticResNet', depth=18),
    r50=dict(type='StaticResNet', depth=50),
    mbv2=dict(type='StaticMobileNetV2'),
)
KINDS = dict(
    kw1d2x=dict(budget=1 / 2),
    kw1x=dict(budget=1),
    kw2x=dict(budget=2),
    kw4x=dict(budget=4),
    odconv1x=dict(conv=dict(type='ODConv2d', num_kernels=1)),
    odconv4x=dict(conv=dict(type='ODConv2d', num_kernels=4)),
    dyconv4x=dict(conv=dict(type='DYConv2d', num_kernels=4)),
)
MODES = ('forward', 'train')
DTYPES = dict(float32=torch.float32, bfloat16=torch.bfloat16, float16=torch.float16)


class Setting(NamedTuple):
    """What is measured.

    Args:
        model: Kind and network, e.g. 'kw1x-r50', 'odconv4x-mbv2'.
        mode: 'forward' (inference) or 'train' (forward and backward; the optimizer's step is not in
            it).
        batch: Images.
        size: (height, width) in pixels.
        dtype: 'float32', or that of autocast.
        device: 'cpu', 'cuda', ...
        channels_last: Memory format of network and images.
        cells: dtype that an extra variant stores its cells in (forward only); 'float32' for none.
        recompute: Whether an extra variant mixes its kernels again in the backward pass (train
            only).
        compile: Whether an extra variant is compiled by torch.compile.
    """

    model: str
    mode: str = 'forward'
    batch: int = 1
    size: Sequence[int] = (224, 224)
    dtype: str = 'float32'
    device: str = 'cpu'
    channels_last: bool = False
    cells: str = 'float32'
    recompute: bool = False
    compile: bool = False


class Result(NamedTuple):
    """Times of one variant.

    Args:
        variant: 'plain', 'reference', 'fast', ...
        median: Seconds.
        spread: Largest minus smallest, in seconds.
        ratio: To the plain network's median in the same run.
        memory: Peak, in MiB: on a GPU what this variant allocated, else the resident size of a
            process of its own.
    """

    variant: str
    median: float
    spread: float
    ratio: float
    memory: float


def model_config(name: str, static: bool = False) -> dict[str, Any]:
    """The backbone's config of a name such as 'kw4x-r50'.

    Raises:
        UserError: An unknown name.
    """
    kind, _, network = name.partition('-')
    if kind not in KINDS or network not in STATIC:
        raise UserError(
            f'model {name!r} is unknown; choose KIND-NETWORK with KIND one of {", ".join(KINDS)} and NETWORK '
            f'one of {", ".join(STATIC)}'
        )
    plain = STATIC[network]
    if static:
        return dict(plain, out_indices=OUTPUTS[network])
    family = 'Dynamic' if 'conv' in KINDS[kind] else 'KW'
    return dict(
        plain,
        type=plain['type'].replace('Static', family),
        out_indices=OUTPUTS[network],
        **KINDS[kind],
    )


def variants(setting: Setting) -> list[str]:
    """Names of what is measured."""
    names = ['plain', 'reference', 'fast']
    if setting.cells != 'float32' and setting.mode == 'forward' and setting.model.startswith('kw'):
        names.append(f'fast, cells in {setting.cells}')
    if setting.recompute and setting.mode == 'train' and setting.model.startswith('kw'):
        names.append('fast, kernels recomputed')
    return names + (['plain, compiled', 'fast, compiled'] if setting.compile else [])


def build(setting: Setting, variant: str) -> nn.Module:
    """One variant's network."""
    torch.manual_seed(0)
    cfg = model_config(setting.model, static=variant.startswith('plain'))
    if 'recomputed' in variant:
        cfg['assemble_checkpoint'] = True
    model = MODELS.build(cfg).to(setting.device).train(setting.mode == 'train')
    if variant == 'reference' and hasattr(model, 'warehouses'):
        for warehouse in model.warehouses.values():  # as published, cell after cell in memory
            warehouse.cells.data = warehouse.cells.data.transpose(0, 1).contiguous().transpose(0, 1)
    if 'cells' in variant:
        model.warehouses.store_cells_as(DTYPES[setting.cells])
    if setting.channels_last:
        model.to(memory_format=torch.channels_last)
    return torch.compile(model) if 'compiled' in variant else model


def autocast(setting: Setting) -> ContextManager:
    if setting.dtype == 'float32':
        return nullcontext()
    return torch.autocast(torch.device(setting.device).type, dtype=DTYPES[setting.dtype])


def step_of(setting: Setting, variant: str) -> Callable[[], None]:
    """A function that runs one step of a variant."""
    model = build(setting, variant)
    images = torch.randn(setting.batch, 3, *setting.size, device=setting.device)
    if setting.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    path: Callable[[], ContextManager] = reference_path if variant == 'reference' else nullcontext

    def forward() -> Tensor:
        with path(), autocast(setting):
            return sum(output.float().mean() for output in model(images))

    def inference() -> None:
        with torch.no_grad():
            forward()

    def train() -> None:
        forward().backward()
        model.zero_grad(set_to_none=True)

    return train if setting.mode == 'train' else inference


def measure(setting: Setting, repetitions: int, memory: bool = True) -> list[Result]:
    """Time all variants, taking turns.

    Args:
        setting: What to measure.
        repetitions: Timed steps of each variant, after a warm-up.
        memory: Whether to measure peak memory too.
    """
    names = variants(setting)
    steps = {name: step_of(setting, name) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for step in steps.values():
        for _ in range(3 if 'cuda' in setting.device else 1):
            step()
    for _ in range(repetitions):
        for name, step in steps.items():
            times[name].append(timed(step, setting.device))
    del steps
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [
        Result(
            name,
            medians[name],
            max(times[name]) - min(times[name]),
            medians[name] / medians['plain'],
            peak_memory(setting, name) if memory and 'compiled' not in name else float('nan'),
        )
        for name in names
    ]


def timed(step: Callable[[], None], device: str) -> float:
    """Seconds one step takes, by events on a GPU."""
    if 'cuda' not in device:
        begin = time.perf_counter()
        step()
        return time.perf_counter() - begin
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def peak_memory(setting: Setting, variant: str) -> float:
    """MiB at the peak of a variant's step."""
    if 'cuda' in setting.device:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        step_of(setting, variant)()
        return torch.cuda.max_memory_allocated() / 2**20
    code = f'from kw_mm.analysis.speed import Setting, alone; print(alone({tuple(setting)!r}, {variant!r}))'
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def alone(setting: Sequence, variant: str) -> float:
    """Peak resident MiB of this process after one step of a variant, the libraries included."""
    import kw_mm  # noqa: F401  (registers the backbones)

    step = step_of(Setting(*setting), variant)
    step()
    try:
        with open('/proc/self/status') as status:  # ru_maxrss would begin with the parent's
            return next(int(line.split()[1]) for line in status if line.startswith('VmHWM')) / 2**10
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
