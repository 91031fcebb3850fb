"""Arguments that command lines share."""
import argparse
import os

from mmengine.config import DictAction


def parse_config_args(parser: argparse.ArgumentParser,
                      about: str = 'changes to the config, e.g. data_root=/datasets/coco/') -> argparse.Namespace:
    """Add ``--cfg-options`` to a parser and parse the command line."""
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help=about)
    try:
        return parser.parse_args()
    except ValueError:                          # mmengine's DictAction raises it of an option without "="
        parser.error('--cfg-options takes KEY=VALUE, e.g. train_dataloader.batch_size=4')


def parse_run_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add the shared arguments to a parser and parse the command line; sets ``LOCAL_RANK`` as mmengine wants it."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; default work_dirs/<config name>')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parse_config_args(parser, 'changes to the config, e.g. data_root=/datasets/coco/ train_dataloader.batch_size=4')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args
