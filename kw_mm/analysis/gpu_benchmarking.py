"""Measuring dynamic convolution on a GPU: every backend, eagerly, compiled and as a graph.

Each variant takes turns with the plain network in the same mode, timed by device events; its ratio
is that of the two medians. Needs torch and torchvision; with OpenMMLab installed our own backbones
are measured. On a CPU the same runs as a rehearsal, without graphs.
"""

import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from json import dumps
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UserError, one_line
from ..files import write_text
from ..ops import reference_path, use_backend
from .variants import DTYPES, Setting, build, check_setting

# 'recomputed' is the default backend with kernels mixed again in the backward pass
WAYS_ON_GPU = ('reference', 'torch', 'cuda', 'triton', 'triton-conv', 'recomputed')
VARIANTS_OF_WAYS = dict(plain='plain', reference='reference', recomputed='fast, kernels recomputed')
RUNS_ON_GPU = ('eager', 'compiled', 'graph')
PACKAGES_NAMED = ('torch', 'triton', 'torchvision', 'mmcv', 'mmdet', 'mmpretrain', 'numpy')
DETECTION, CLASSIFICATION = (800, 1344), (224, 224)
HEAD_START = 2_000_000  # cycles, about a millisecond
# The models and shapes that the goals are set for, most telling first.
GOALS = tuple(
    Setting(model, mode, batch, size, 'bfloat16')
    for mode, batch, size, models in (
        ('forward', 1, DETECTION, ('kw1x-r50',)),
        ('train', 2, DETECTION, ('kw1x-r50',)),
        ('forward', 128, CLASSIFICATION, ('kw1x-r50',)),
        ('train', 128, CLASSIFICATION, ('kw1x-r50',)),
        ('forward', 1, DETECTION, ('kw4x-r50', 'odconv4x-r50', 'kw1x-mbv2', 'kw4x-mbv2')),
        ('train', 2, DETECTION, ('kw4x-r50', 'odconv4x-r50', 'kw1x-mbv2', 'kw4x-mbv2')),
        ('forward', 128, CLASSIFICATION, ('kw4x-r50', 'odconv4x-r50')),
        ('train', 128, CLASSIFICATION, ('kw4x-r50', 'odconv4x-r50')),
    )
    for model in models
)


class Measured(NamedTuple):
    """One variant beside the plain network.

    Args:
        setting: What was measured.
        way: 'reference' or a backend.
        run: 'eager', 'compiled' or 'graph'.
        plain, median, spread: Milliseconds: medians of both, and largest minus smallest.
        plain_memory, memory: Peaks in MiB above what was allocated before, weights included; NaN
            where the device does not tell.
        failed: What kept it from being measured, on one line.
    """

    setting: Setting
    way: str
    run: str
    plain: float = float('nan')
    median: float = float('nan')
    spread: float = float('nan')
    plain_memory: float = float('nan')
    memory: float = float('nan')
    failed: str = ''

    @property
    def ratio(self) -> float:
        """To the plain network in the same mode."""
        return self.median / self.plain


class Prepared(NamedTuple):
    """A step of a variant, and its peak memory in MiB (NaN where the device does not tell)."""

    step: Callable[[], object]
    memory: float


def measure_all(
    settings: Sequence[Setting],
    ways: Sequence[str],
    runs: Sequence[str],
    repetitions: int,
    *,
    minutes: float = float('inf'),
    after_each: Callable[[list[Measured]], None] = lambda found: None,
) -> list[Measured]:
    """Measure every way and run of every setting.

    Args:
        settings: What to measure, most valuable first.
        ways: Of ``WAYS_ON_GPU``.
        runs: Of ``RUNS_ON_GPU``; compiled ones only of backends.
        repetitions: Timed steps of each variant and of the plain network beside it.
        minutes: When to begin no more.
        after_each: Called with everything measured so far; an interruption loses one row.

    Returns:
        list[Measured]: In the order of measuring; what failed says so. After a failure that the
            device does not survive there are no more.
    """
    end, found = time.monotonic() + 60 * minutes, []
    for setting in settings:
        for run in runs:
            plain = None
            for way in different(setting, ways):
                if not makes_sense(setting, way, run):
                    continue
                if time.monotonic() > end:
                    return found
                one, plain = measure_pair(setting, way, run, repetitions, plain)
                found.append(one)
                after_each(found)
                if one.failed and is_lost(setting.device):
                    return found
                if run == 'compiled':  # networks of one structure share code, whatever the backend
                    plain = None
                    forget(setting.device)
            del plain
            forget(setting.device)
    return found


def makes_sense(setting: Setting, way: str, run: str) -> bool:
    """Whether a variant is there: CPUs have no graphs, and the published code runs eagerly."""
    if run == 'graph' and 'cuda' not in setting.device:
        return False
    if way == 'reference' and run != 'eager':
        return False
    if way == 'recomputed' and run == 'compiled':
        return False
    return way != 'recomputed' or (setting.mode == 'train' and setting.has_warehouses)


def different(setting: Setting, ways: Sequence[str]) -> list[str]:
    """The ways that differ: of one image, backends that convolve several otherwise are one.

    Not so in float32, for which they have other ways to the matrix unit.
    """
    if setting.dtype == 'float32':
        return list(ways)
    twins = {'cuda': 'torch', 'triton-conv': 'triton'}
    return [way for way in ways if setting.batch > 1 or twins.get(way) not in ways]


def measure_pair(
    setting: Setting, way: str, run: str, repetitions: int, plain: Prepared | None = None
) -> tuple[Measured, Prepared | None]:
    """Measure one variant beside the plain network; what fails is told, not raised.

    Args:
        setting, way, run, repetitions: As in :func:`measure_all`.
        plain: The plain network's step, where one is there from before.

    Returns:
        tuple: What was measured, and the plain network's step for the next variant.
    """
    try:
        plain = plain or prepared(setting, 'plain', run)
        step, memory = prepared(setting, way, run)
        times = take_turns([plain.step, step], repetitions, setting.device)
        del step
    except Exception as error:
        told = f'{type(error).__name__}: {one_line(error)[:200]}'
        return Measured(setting, way, run, failed=told), None
    finally:
        collect_garbage(setting.device)
    medians = [statistics.median(one) for one in times]
    spread = max(times[1]) - min(times[1])
    return Measured(setting, way, run, *medians, spread, plain.memory, memory), plain


def prepared(setting: Setting, way: str, run: str) -> Prepared:
    """A step of a variant, warmed up, compiled or captured."""
    on_gpu = 'cuda' in setting.device
    before = torch.cuda.memory_allocated() if on_gpu else 0
    model = build(setting, VARIANTS_OF_WAYS.get(way, 'fast'))
    images = torch.randn(setting.batch, 3, *setting.size, device=setting.device)
    if setting.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    if run == 'compiled':
        model.compile(dynamic=False)

    def step() -> None:
        with chosen(way):
            run_once(model, images, setting)

    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3 if on_gpu else 1):
        step()
    memory = (torch.cuda.max_memory_allocated() - before) / 2**20 if on_gpu else float('nan')
    return Prepared(captured(step) if run == 'graph' and on_gpu else step, memory)


def run_once(model: nn.Module, images: Tensor, setting: Setting) -> None:
    """One forward pass, or one forward and backward pass."""
    training = setting.mode == 'train'
    if training:
        for parameter in model.parameters():
            parameter.grad = None
    with torch.set_grad_enabled(training), autocast_of(setting):
        loss = sum(output.float().mean() for output in model(images))
    if training:
        loss.backward()


def chosen(way: str) -> AbstractContextManager:
    """The context in which a variant is computed."""
    if way == 'reference':
        return reference_path()
    return nullcontext() if way in ('plain', 'recomputed') else use_backend(way)


def autocast_of(setting: Setting) -> AbstractContextManager:
    """autocast in the setting's dtype, none for float32."""
    if setting.dtype == 'float32':
        return nullcontext()
    return torch.autocast(torch.device(setting.device).type, dtype=DTYPES[setting.dtype])


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """Replays of a step as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return partial(_replay, graph, step)


def _replay(graph: torch.cuda.CUDAGraph, step: Callable[[], None]) -> None:
    """Replay a graph; whoever can do so holds the step, whose network and images it works on."""
    graph.replay()


def take_turns(
    steps: Sequence[Callable[[], object]], repetitions: int, device: str
) -> list[list[float]]:
    """Milliseconds of every step, each in turn with the others."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(repetitions):
        for step, found in zip(steps, times):
            found.append(milliseconds(step, device))
    return times


def milliseconds(step: Callable[[], object], device: str, *, busy: bool = False) -> float:
    """How long one step takes, by events on a GPU.

    Args:
        step: What is timed.
        device: Where it runs.
        busy: Whether the device has something to do while the step is launched, so that only its
            own work is timed; otherwise it is idle, and waits for each launch as in a real run.
    """
    if 'cuda' not in device:
        begin = time.perf_counter()
        step()
        return 1e3 * (time.perf_counter() - begin)
    begin_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    if busy:
        torch.cuda._sleep(HEAD_START)
    begin_event.record()
    step()
    end_event.record()
    torch.cuda.synchronize()
    return float(begin_event.elapsed_time(end_event))


def forget(device: str) -> None:
    """Give back what a variant held, graphs and compiled code included."""
    if 'torch._dynamo' in sys.modules:
        torch._dynamo.reset()
    collect_garbage(device)


def collect_garbage(device: str) -> None:
    """Give back memory that nobody holds."""
    gc.collect()
    if 'cuda' in device:
        with suppress(RuntimeError):  # a GPU that is lost answers everything with its first error
            torch.cuda.empty_cache()


def is_lost(device: str) -> bool:
    """Whether a GPU answers nothing any more in this process, as after an illegal access."""
    if 'cuda' not in device:
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def versions_here() -> dict[str, str]:
    """Versions of what a measurement depends on."""
    found = dict(python=platform.python_version())
    for name in PACKAGES_NAMED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if torch.version.cuda:
        found['CUDA'] = torch.version.cuda
    return found


def machine_here(device: str) -> str:
    """The card, or for a rehearsal the processor."""
    if 'cuda' in device:
        properties = torch.cuda.get_device_properties(device)
        return f'{properties.name}, {properties.total_memory / 2**30:.0f} GiB'
    return f'a CPU ({platform.machine()}, {torch.get_num_threads()} threads): a rehearsal'


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines) + '\n'


def table_of(found: Sequence[Measured]) -> str:
    """What was measured, a row each."""
    header = ['model', 'step', 'batch, size', 'dtype', 'run', 'way', 'plain ms', 'ms', 'spread']
    return markdown([*header, 'ratio', 'peak MiB (plain)'], map(_row, found))


def _row(one: Measured) -> list[Any]:
    setting = one.setting
    height, width = setting.size
    words = [setting.model, setting.mode, f'{setting.batch}, {height} x {width}', setting.dtype]
    words += [one.run, one.way]
    if one.failed:
        return [*words, 'failed', one.failed.replace('|', '/'), '', '', '']
    numbers = [f'{one.plain:.2f}', f'{one.median:.2f}', f'{one.spread:.2f}', f'{one.ratio:.2f}']
    return [*words, *numbers, f'{one.memory:.0f} ({one.plain_memory:.0f})']


def best_of(found: Sequence[Measured]) -> str:
    """For each setting and run the best way, beside the reference: the short table."""
    rows = []
    groups: dict[tuple[Setting, str], list[Measured]] = {}
    for one in found:
        if not one.failed:
            groups.setdefault((one.setting, one.run), []).append(one)
    for (setting, run), ways in groups.items():
        best = min(ways, key=lambda one: one.ratio)
        reference = [f'{one.ratio:.2f}' for one in ways if one.way == 'reference']
        height, width = setting.size
        rows.append(
            [setting.model, setting.mode, f'{setting.batch}, {height} x {width}', run]
            + [best.way, f'{best.ratio:.2f}', *(reference or ['']), f'{best.plain:.2f}']
        )
    header = ['model', 'step', 'batch, size', 'run', 'best way', 'ratio', 'reference', 'plain ms']
    return markdown(header, rows)


def report_of(title: str, device: str, command: str, parts: dict[str, str]) -> str:
    """A page for ``docs/benchmarks/``: when, where, with what, and the tables.

    Args:
        title: Of the page.
        device: That was measured.
        command: That was run.
        parts: Tables by heading.
    """
    named = ', '.join(f'{name} {number}' for name, number in versions_here().items())
    today = datetime.now(timezone.utc).date().isoformat()
    text = f'# {title}\n\nMeasured on {today}, on {machine_here(device)}, with {named}, by\n\n'
    text += f'    {command}\n\n'
    text += (
        'Ratios are to the plain network in the same run and mode: medians of steps that took '
        'turns.\n'
    )
    return text + ''.join(f'\n## {heading}\n\n{table}' for heading, table in parts.items())


def run_gpu_benchmark(
    settings: Sequence[Setting],
    ways: Sequence[str],
    *,
    runs: Sequence[str],
    repetitions: int,
    goals: bool,
    shapes: bool,
    detector: bool,
    minutes: float,
    report: str | None,
    json: str | None,
    command: str,
) -> None:
    """What ``tools/benchmark.py`` does on a GPU.

    Args:
        settings: What to measure.
        ways: Of ``WAYS_ON_GPU``.
        runs: Of ``RUNS_ON_GPU``.
        repetitions: Timed steps of each variant.
        goals: Whether to measure ``GOALS`` instead of ``settings``, in their memory order.
        shapes: Whether to print the table of layer shapes instead.
        detector: Whether to measure whole training iterations of a detector instead.
        minutes: When to begin no more.
        report: File for a page, written after each row.
        json: File for all numbers, likewise.
        command: What was run, for the page.

    Raises:
        UserError: What cannot be measured or written, before anything is measured; and a GPU that
            was lost on the way.
    """
    first = settings[0]
    if goals:
        settings = [
            goal._replace(device=first.device, channels_last=first.channels_last) for goal in GOALS
        ]
    _check(settings, repetitions, (report, json))
    title = f'Benchmark on {machine_here(first.device)}'

    def write(parts: dict[str, str], records: list[dict[str, Any]]) -> None:
        if report:
            write_text(report, report_of(title, first.device, command, parts))
        if json:
            about = dict(versions=versions_here(), machine=machine_here(first.device))
            write_text(json, dumps(dict(about, records=records), indent=1))

    if shapes:
        from .shape_table import shape_records, shape_report, short_shapes, time_shapes

        timed = time_shapes(
            first,
            repetitions,
            minutes=minutes,
            orders=('nhwc',) if first.channels_last else ('nhwc', 'nchw'),
            after_each=lambda found: write(
                {'Short': short_shapes(found), **shape_report(found)}, shape_records(found)
            ),
        )
        print(short_shapes(timed))
        return

    if detector:
        from .detector_benchmarking import detector_table, measure_detectors

        height, width = first.size
        iterations = measure_detectors(first.device, first.dtype, repetitions, (height, width))
        heading = f'Mask R-CNN R50, training, 2 images of {height} x {width}, {first.dtype}'
        write({heading: detector_table(iterations)}, [one._asdict() for one in iterations])
        print(detector_table(iterations))
        return

    def after_each(found: list[Measured]) -> None:
        print(table_of(found[-1:]).splitlines()[-1], flush=True)
        parts = {'Best of each': best_of(found), 'All': table_of(found)}
        write(parts, [dict(one._asdict(), setting=one.setting._asdict()) for one in found])

    found = measure_all(settings, ways, runs, repetitions, minutes=minutes, after_each=after_each)
    print(best_of(found))
    if is_lost(first.device):
        raise UserError(
            f'the GPU answers nothing any more, since {found[-1].way!r} failed '
            f'({found[-1].failed}); measure the other ways with --ways'
        )


def _check(settings: Sequence[Setting], repetitions: int, files: Sequence[str | None]) -> None:
    if repetitions < 1:
        raise UserError(
            f'repetitions must be positive, got --repetitions {repetitions}; use for example 5'
        )
    for setting in settings:
        check_setting(setting)
    for file in filter(None, files):
        if not Path(file).resolve().parent.is_dir():
            raise UserError(f'{file}: there is no such folder; make it first')
