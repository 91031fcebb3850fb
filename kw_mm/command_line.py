"""Arguments that command lines share."""

import argparse
import os
from typing import Any

from mmengine.config import DictAction


class CfgOptions(DictAction):
    """mmengine's action for ``--cfg-options``; what it cannot parse is a usage error and no stack trace."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        try:
            super().__call__(parser, *args)
        except (
            ValueError,
            AssertionError,
            RecursionError,
        ):  # no "=", brackets that do not match, dict(...) in a list
            parser.error(
                '--cfg-options takes KEY=VALUE, e.g. train_dataloader.batch_size=4; a value is a number, a word, '
                'or a list of them'
            )


def parse_run_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add the shared arguments to a parser and parse the command line; sets ``LOCAL_RANK`` as mmengine wants it."""
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints; default work_dirs/<config name>'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='changes to the config, e.g. data_root=/datasets/coco/ train_dataloader.batch_size=4',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args
