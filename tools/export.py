"""Write a network into a file that other runtimes read.

python tools/export.py CONFIG CHECKPOINT --to FORMAT --output FILE [--part detector]
"""

import os

from kw_mm.analysis.report import print_rich
from kw_mm.command_line import command, tool_parser
from kw_mm.errors import UserError
from kw_mm.export import FORMATS, PART_CLASSES, export


@command
def main() -> None:
    parser = tool_parser(
        __doc__,
        'export mask_rcnn_kw_r50_1x_coco epoch_12.pth --output backbone.onnx',
        'export mask_rcnn_kw_r50_1x_coco epoch_12.pth --to torchscript --output backbone.pt',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, in any layout, or kw://NAME')
    parser.add_argument('--to', choices=FORMATS, default='onnx', help='default onnx')
    parser.add_argument(
        '--part',
        choices=PART_CLASSES,
        default='backbone',
        help='backbone (default), or detector: up to the raw maps of its dense head',
    )
    parser.add_argument('--output', required=True, metavar='FILE', help='file to write')
    parser.add_argument('--opset', type=int, default=20, help="ONNX's, 18 to 23; default 20")
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        default=(256, 320),
        metavar=('H', 'W'),
        help='size of the example and of the first check; the file takes every size',
    )
    parser.add_argument(
        '--tolerance', type=float, default=1e-4, help='largest deviation from PyTorch; default 1e-4'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    args = parser.parse_args()
    if os.path.exists(args.output) and not args.overwrite:
        raise UserError(f'{args.output} exists; --overwrite replaces it')
    done = export(
        args.config,
        args.checkpoint,
        args.to,
        args.output,
        part=args.part,
        opset=args.opset,
        size=args.size,
        tolerance=args.tolerance,
    )
    print_rich(
        ('output', 'shape of the example'),
        [(name, str(shape)) for name, shape in done.outputs.items()],
    )
    if done.static_layers:
        print(f'temperature 1: {done.static_layers} layers were written as plain ones')
    if done.rows is None:
        print('not compared with PyTorch: pip install onnxruntime')
    else:
        if any(row.rounding is not None for row in done.rows):
            rounding = max(row.rounding for row in done.rows)
            print(
                'compared with PyTorch in float64, from which PyTorch in float32 differs by '
                f'up to {rounding:.1e}'
            )
        print_rich(
            ('batch', 'size', 'largest deviation from PyTorch'),
            [
                (str(row.batch), '{} x {}'.format(*row.size), f'{row.deviation:.1e}')
                for row in done.rows
            ],
        )
    print(f'{args.output}: {os.path.getsize(args.output) / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
