"""Measuring dynamic convolution against the plain network, side by side in one run.

Variants take turns, so that a busy machine slows all of them alike.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..errors import UserError
from ..files import check_file, write_text
from ..ops import reference_path
from .profiling import print_profile, profile_forward
from .variants import DTYPES, Setting, build, check_setting, variants


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


def run_benchmark(
    settings: Sequence[Setting],
    repetitions: int = 5,
    *,
    memory: bool = True,
    profile: bool = False,
    file: str | None = None,
) -> list[dict[str, Any]]:
    """Measure settings one after the other and print a table of each.

    Args:
        settings: What to measure; those of one model follow each other.
        repetitions: Timed steps of each variant.
        memory: Whether to measure peak memory too.
        profile: Whether to split the fast forward pass of each model into its parts.
        file: JSON file for everything measured. It is written after every setting: an interrupted
            benchmark keeps what it has.

    Returns:
        list[dict]: Of each setting, ``setting``, ``results``, and ``profile`` where there is one.

    Raises:
        UserError: What could not be measured or written, before anything is measured.
    """
    _check(settings, repetitions, profile, file)
    records: list[dict[str, Any]] = []
    for i, setting in enumerate(settings):
        results = measure(setting, repetitions, memory=memory)
        print_results(setting, results)
        record = dict(setting=setting._asdict(), results=[result._asdict() for result in results])
        records.append(record)
        if profile and setting.model not in {later.model for later in settings[i + 1 :]}:
            images = torch.randn(setting.batch, 3, *setting.size, device=setting.device)
            record['profile'] = profile_forward(build(setting, 'fast').eval(), images)
            print_profile(record['profile'])
        if file:
            about = dict(torch=torch.__version__, threads=torch.get_num_threads())
            write_text(file, json.dumps(dict(about, runs=records), indent=1))
    return records


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
            times[name].append(_timed(step, setting.device))
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


def step_of(setting: Setting, variant: str) -> Callable[[], None]:
    """A function that runs one step of a variant."""
    model = build(setting, variant)
    images = torch.randn(setting.batch, 3, *setting.size, device=setting.device)
    if setting.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    path = reference_path if variant == 'reference' else nullcontext

    def forward() -> Tensor:
        with path(), _autocast(setting):
            return sum(output.float().mean() for output in model(images))

    def inference() -> None:
        with torch.no_grad():
            forward()

    def train() -> None:
        forward().backward()
        model.zero_grad(set_to_none=True)

    return train if setting.mode == 'train' else inference


def peak_memory(setting: Setting, variant: str) -> float:
    """MiB at the peak of a variant's step; on a CPU, of a process of its own with the libraries."""
    if 'cuda' in setting.device:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        step_of(setting, variant)()
        return torch.cuda.max_memory_allocated() / 2**20
    code = (
        'from kw_mm.analysis.benchmarking import resident_peak; '
        f'print(resident_peak({tuple(setting)!r}, {variant!r}))'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def resident_peak(setting: Sequence, variant: str) -> float:
    """Peak resident MiB of this process after one step of a variant, the libraries included."""
    step = step_of(Setting(*setting), variant)
    step()
    try:
        with open('/proc/self/status') as status:  # ru_maxrss would begin with the parent's
            return next(int(line.split()[1]) for line in status if line.startswith('VmHWM')) / 2**10
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def print_results(setting: Setting, results: Sequence[Result]) -> None:
    """Print a table of one setting."""
    height, width = setting.size
    title = (
        f'{setting.model} {setting.mode}, batch {setting.batch}, {height} x {width}, '
        f'{setting.dtype}, {setting.device}{", channels-last" if setting.channels_last else ""}'
    )
    columns = ('variant', 'median (ms)', 'spread (ms)', 'ratio to plain', 'peak (MiB)')
    table = Table(*columns, title=title, box=box.ASCII)
    for result in results:
        table.add_row(
            result.variant,
            f'{1e3 * result.median:.1f}',
            f'{1e3 * result.spread:.1f}',
            f'{result.ratio:.2f}',
            f'{result.memory:.0f}',
        )
    Console(width=110).print(table)


def _check(settings: Sequence[Setting], repetitions: int, profile: bool, file: str | None) -> None:
    if repetitions < 1:
        raise UserError(
            f'repetitions must be positive, got --repetitions {repetitions}; use for example 5'
        )
    for setting in settings:
        check_setting(setting)
        if profile and not setting.has_warehouses:
            raise UserError(
                f'--profile splits networks with kernel warehouses; {setting.model} has none'
            )
    if file and not Path(file).resolve().parent.is_dir():
        raise UserError(f'--json {file}: there is no such folder; make it first')
    if file:
        check_file(file, '--json')


def _autocast(setting: Setting) -> AbstractContextManager:
    if setting.dtype == 'float32':
        return nullcontext()
    return torch.autocast(torch.device(setting.device).type, dtype=DTYPES[setting.dtype])


def _timed(step: Callable[[], None], device: str) -> float:
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
