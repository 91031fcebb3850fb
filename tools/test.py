"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT."""

import argparse

from kw_mm.command_line import command, parse_run_args, tool_parser
from kw_mm.training.launch import test


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'test mask_rcnn_kw_r50_1x_coco work_dirs/mask_rcnn_kw_r50_1x_coco/epoch_12.pth',
        'test birds.py epoch_20.pth --show-dir pictures --cfg-options data_root=/datasets/birds/',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, in any layout')
    parser.add_argument(
        '--show-dir', help='draw predictions beside the ground truth into this folder'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model on the views of its tta_pipeline",
    )
    parser.add_argument('--out', metavar='FILE.pkl', help='save all predictions')
    return parse_run_args(parser)


if __name__ == '__main__':
    command(test)(parse_args())
