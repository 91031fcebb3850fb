"""Draw what a detector finds, or name the classes that a classifier sees.

python tools/predict.py CONFIG CHECKPOINT IMAGE|FOLDER|VIDEO...
"""

import argparse

from kw_mm.command_line import CfgOptions, command, tool_parser
from kw_mm.inference import predict


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'predict mask_rcnn_kw_r50_1x_coco epoch_12.pth photos/ --out-dir predictions',
        'predict birds.py work_dirs/birds/epoch_20.pth film.mp4 --score-thr 0.5',
    )
    parser.add_argument(
        'config', help='config file; of a classifier, the most likely classes are printed'
    )
    parser.add_argument(
        'checkpoint', help='checkpoint file, in any layout; a bare state_dict is enough'
    )
    parser.add_argument('inputs', nargs='+', metavar='IMAGE|FOLDER|VIDEO')
    parser.add_argument(
        '--out-dir', default='predictions', help='folder for pictures and predictions.json'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='draw what scores more; the JSON has everything',
    )
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ...; default a GPU if there is one')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='changes to the config',
    )
    return parser.parse_args()


if __name__ == '__main__':
    command(predict)(parse_args())
