"""Write a network into a file that other runtimes read.

python tools/export.py CONFIG CHECKPOINT --to FORMAT --output FILE [--part detector]
"""

import os
from collections.abc import Sequence

from kw_mm.analysis.report import print_rich
from kw_mm.command_line import command, tool_parser
from kw_mm.errors import UserError
from kw_mm.export import FORMATS, PARTS, DetectionRow, Exported, Row, export


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
        choices=PARTS,
        default='backbone',
        help='backbone (default); maps: the raw ones of a dense head; detector: images to '
        'detections, in ONNX',
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
        '--static-batch', type=int, metavar='N', help='the only number of images it will take'
    )
    parser.add_argument(
        '--static-size', nargs=2, type=int, metavar=('H', 'W'), help='the only size it will take'
    )
    parser.add_argument(
        '--with-preprocessing',
        action='store_true',
        help='a detector takes images as they are read, uint8 (batch, height, width, 3) in BGR',
    )
    parser.add_argument(
        '--images',
        nargs='+',
        default=(),
        metavar='PATH',
        help="pictures or folders on which detections are compared; by default the config's test "
        'images, else drawn ones',
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
        with_preprocessing=args.with_preprocessing,
        static_batch=args.static_batch,
        static_size=args.static_size,
        pictures=args.images,
    )
    report(done)
    print(f'{args.output}: {os.path.getsize(args.output) / 2**20:.1f} MiB')


def report(done: Exported) -> None:
    """Print what was written, and how it compares."""
    print_rich(
        ('output', 'shape of the example'),
        [(name, str(shape)) for name, shape in done.outputs.items()],
    )
    if done.static_layers:
        print(f'constant attention: {done.static_layers} layers were written as plain ones')
    if done.rows is None:
        print('not compared with PyTorch: pip install onnxruntime')
    elif isinstance(done.rows[0], DetectionRow):
        report_detections(done.rows, 'masks' in done.outputs)
    else:
        report_values(done.rows)


def report_values(rows: Sequence[Row]) -> None:
    if any(row.rounding is not None for row in rows):
        rounding = max(row.rounding for row in rows)
        print(
            'compared with PyTorch in float64, from which PyTorch in float32 differs by '
            f'up to {rounding:.1e}'
        )
    print_rich(
        ('batch', 'size', 'largest deviation from PyTorch'),
        [(str(row.batch), '{} x {}'.format(*row.size), f'{row.deviation:.1e}') for row in rows],
    )


def report_detections(rows: Sequence[DetectionRow], masks: bool) -> None:
    print_rich(
        ('batch', 'size', 'detections', 'boxes differ by', 'scores by', 'masks overlap by'),
        [
            (
                str(row.batch),
                '{} x {}'.format(*row.size),
                str(row.detections),
                f'{row.box:.1e} px',
                f'{row.score:.1e}',
                f'{row.mask_iou:.4f}' if masks else '-',
            )
            for row in rows
        ],
    )
    if not any(row.detections for row in rows):
        print(
            'PyTorch finds nothing in these images, so nothing was compared: give others, --images'
        )


if __name__ == '__main__':
    main()
