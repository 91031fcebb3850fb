"""Dynamic convolution against the plain network: python tools/benchmark.py --model kw1x-r50.

Variants take turns, so that a busy machine slows all of them alike; ratios are to the plain network
of the same run.

On a GPU (--device cuda) every backend is measured, eagerly, compiled and as a CUDA graph, with
torch and torchvision only where OpenMMLab is not installed; --goals measures the models and sizes
that goals are set for, --shapes every way to compute each layer shape, and --report writes a page
with date, card and versions. The same options on a CPU (--device cpu --ways ...) are a rehearsal.
"""

import argparse
import sys
from collections.abc import Callable

import torch

from kw_mm.analysis.gpu_benchmarking import RUNS_ON_GPU, WAYS_ON_GPU
from kw_mm.analysis.variants import BENCHMARK_MODES, DTYPES, KINDS, NETWORKS, Setting

try:
    from kw_mm.command_line import command
except ModuleNotFoundError:  # without OpenMMLab, as on a bare GPU machine

    def command(main: Callable[..., None]) -> Callable[..., None]:
        return main


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='examples:\n  kw_mm benchmark --model kw1x-r50 kw4x-r50\n'
        '  kw_mm benchmark --device cuda --goals --report gpu.md',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--model',
        nargs='+',
        default=['kw1x-r50'],
        metavar='KIND-NETWORK',
        help=f'KIND one of {", ".join(KINDS)}; NETWORK one of {", ".join(NETWORKS)}',
    )
    parser.add_argument(
        '--mode',
        nargs='+',
        choices=BENCHMARK_MODES,
        default=list(BENCHMARK_MODES),
        help='forward: inference; train: forward and backward, without the optimizer',
    )
    parser.add_argument(
        '--batch', type=int, default=2, help='images; training needs 2 or more; default 2'
    )
    parser.add_argument(
        '--size', type=int, nargs='+', default=[224], metavar='PX', help='height [width]'
    )
    parser.add_argument(
        '--dtype', choices=DTYPES, default='float32', help='float32, or the dtype of autocast'
    )
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument(
        '--cells', choices=DTYPES, default='float32', help='add a variant with cells of this dtype'
    )
    parser.add_argument(
        '--recompute', action='store_true', help='add a variant with assemble_checkpoint=True'
    )
    parser.add_argument(
        '--folded',
        action='store_true',
        help='add variants whose batch norms are folded into their convolutions (forward)',
    )
    parser.add_argument('--compile', action='store_true', help='add variants under torch.compile')
    parser.add_argument('--repetitions', type=int, default=5, help='timed steps of each variant')
    parser.add_argument('--threads', type=int, help="CPU threads; default torch's")
    parser.add_argument('--no-memory', action='store_true', help='leave peak memory out')
    parser.add_argument(
        '--default-malloc',
        action='store_true',
        help='on a CPU, let glibc map large tensors anew each time, which all variants pay for',
    )
    parser.add_argument(
        '--profile', action='store_true', help='also split the fast forward pass into its parts'
    )
    parser.add_argument('--json', metavar='FILE', help='write everything measured to a file')
    gpu = parser.add_argument_group('on a GPU')
    gpu.add_argument('--ways', nargs='+', choices=WAYS_ON_GPU, help='default: all')
    gpu.add_argument(
        '--runs', nargs='+', choices=RUNS_ON_GPU, default=['eager', 'graph'], help='how they run'
    )
    gpu.add_argument(
        '--goals', action='store_true', help='measure what goals are set for; --model and sizes off'
    )
    gpu.add_argument('--shapes', action='store_true', help='a table of layer shapes instead')
    gpu.add_argument(
        '--detector',
        action='store_true',
        help='instead, training iterations of Mask R-CNN R50, plain and KW 1x; needs OpenMMLab',
    )
    gpu.add_argument('--minutes', type=float, default=float('inf'), help='when to begin no more')
    gpu.add_argument(
        '--report',
        metavar='FILE',
        help='write a page, e.g. docs/benchmarks/h100.md, after each row',
    )
    return parser.parse_args()


@command
def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    size = tuple(args.size * 2 if len(args.size) == 1 else args.size)
    settings = [
        Setting(
            model,
            mode,
            args.batch,
            size,
            args.dtype,
            args.device,
            args.channels_last,
            args.cells,
            args.recompute,
            args.compile,
            args.folded,
        )
        for model in args.model
        for mode in args.mode
    ]
    is_rehearsal = bool(args.ways or args.goals or args.shapes or args.detector or args.report)
    if is_rehearsal or ('cuda' in args.device and not args.profile):
        from kw_mm.analysis.gpu_benchmarking import run_gpu_benchmark

        ways = args.ways or list(WAYS_ON_GPU)
        command_line = ' '.join(['python', *sys.argv])
        run_gpu_benchmark(settings, ways, command=command_line, **_gpu_options(args))
        return
    from kw_mm.analysis.benchmarking import run_benchmark
    from kw_mm.training.launch import keep_freed_memory

    if args.device == 'cpu' and not args.default_malloc:
        keep_freed_memory()
    run_benchmark(
        settings, args.repetitions, memory=not args.no_memory, profile=args.profile, file=args.json
    )


def _gpu_options(args: argparse.Namespace) -> dict:
    names = ('runs', 'repetitions', 'goals', 'shapes', 'detector', 'minutes', 'report', 'json')
    return {name: getattr(args, name) for name in names}


if __name__ == '__main__':
    main()
