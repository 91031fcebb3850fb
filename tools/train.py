"""Train a detector or a classifier: python tools/train.py CONFIG."""

import argparse

from kw_mm.command_line import command, parse_run_args, tool_parser
from kw_mm.training.launch import train


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'train mask_rcnn_kw_r50_1x_coco --auto-scale-lr                      # one GPU',
        'train birds.py --auto-scale-lr --amp --cfg-options train_dataloader.batch_size=4',
        'train birds.py --resume                                             # goes on',
    )
    parser.add_argument('config', help='config file, e.g. configs/mask_rcnn_kw_r50_1x_coco.py')
    parser.add_argument('--amp', action='store_true', help='mixed precision (GPU)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the total batch size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='FILE',
        help='continue from FILE, or from the newest checkpoint in the work dir',
    )
    parser.add_argument(
        '--skip-bad-images',
        action='store_true',
        help='train without images that cannot be read; each is named and counted in the log',
    )
    return parse_run_args(parser)


if __name__ == '__main__':
    command(train)(parse_args())
