"""Dynamic convolution against the plain network, side by side: python tools/benchmark.py --model kw1x-r50 --batch 2.

Variants take turns, so that a busy machine slows all of them alike; ratios are to the plain network
of the same run.
"""

import argparse
import json
import os

import torch
from rich import box
from rich.console import Console
from rich.table import Table

import kw_mm  # noqa: F401  (registers the backbones)
from kw_mm.analysis.profile import profile_forward
from kw_mm.analysis.speed import DTYPES, KINDS, MODES, STATIC, Setting, build, measure, model_config
from kw_mm.command_line import command
from kw_mm.errors import UserError
from kw_mm.training.launch import keep_freed_memory


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model',
        nargs='+',
        default=['kw1x-r50'],
        metavar='KIND-NETWORK',
        help=f'KIND one of {", ".join(KINDS)}; NETWORK one of {", ".join(STATIC)}',
    )
    parser.add_argument(
        '--mode',
        nargs='+',
        choices=MODES,
        default=list(MODES),
        help='forward: inference; train: forward and backward, without the optimizer',
    )
    parser.add_argument('--batch', type=int, default=1)
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
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Refuse what would fail after minutes of measuring."""
    if min(args.batch, args.repetitions, *args.size) < 1 or len(args.size) > 2:
        raise UserError(
            f'--batch {args.batch}, --repetitions {args.repetitions} and --size {args.size} must be positive, '
            'the size one or two numbers'
        )
    for model in args.model:
        model_config(model)
        if args.profile and not model.startswith('kw'):
            raise UserError(f'--profile splits networks with kernel warehouses; {model} has none')
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        raise UserError(f'--device {args.device}: torch sees no GPU; use --device cpu')
    if args.json and not os.path.isdir(os.path.dirname(os.path.abspath(args.json))):
        raise UserError(f'--json {args.json}: there is no such folder; make it first')


@command
def main() -> None:
    args = parse_args()
    check(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device == 'cpu' and not args.default_malloc:
        keep_freed_memory()
    size = tuple(args.size * 2)[:2]
    records = []
    for model in args.model:
        for mode in args.mode:
            setting = Setting(
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
            )
            results = measure(setting, args.repetitions, memory=not args.no_memory)
            show(setting, results)
            records.append(
                dict(setting=setting._asdict(), results=[result._asdict() for result in results])
            )
            write(args.json, records)
        if args.profile:
            records[-1]['profile'] = show_profile(setting)
            write(args.json, records)


def write(path: str | None, records: list) -> None:
    """Written after every setting: an interrupted benchmark keeps what it has."""
    if path:
        with open(path, 'w') as file:
            json.dump(
                dict(torch=torch.__version__, threads=torch.get_num_threads(), runs=records),
                file,
                indent=1,
            )


def show(setting: Setting, results) -> None:
    title = (
        f'{setting.model} {setting.mode}, batch {setting.batch}, {setting.size[0]} x {setting.size[1]}, '
        f'{setting.dtype}, {setting.device}{", channels-last" if setting.channels_last else ""}'
    )
    table = Table(
        'variant',
        'median (ms)',
        'spread (ms)',
        'ratio to plain',
        'peak (MiB)',
        title=title,
        box=box.ASCII,
    )
    for result in results:
        table.add_row(
            result.variant,
            f'{1e3 * result.median:.1f}',
            f'{1e3 * result.spread:.1f}',
            f'{result.ratio:.2f}',
            f'{result.memory:.0f}',
        )
    Console(width=110).print(table)


def show_profile(setting: Setting):
    model = build(setting, 'fast').eval()
    parts = profile_forward(
        model, torch.randn(setting.batch, 3, *setting.size, device=setting.device)
    )
    whole = sum(parts.values())
    print(
        'fast forward pass: '
        + ', '.join(
            f'{part} {1e3 * seconds:.1f} ms ({seconds / whole:.0%})'
            for part, seconds in parts.items()
        )
    )
    return parts


if __name__ == '__main__':
    main()
