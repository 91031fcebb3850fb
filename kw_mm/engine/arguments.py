"""Arguments that training and testing share."""
import argparse
import os

from mmengine.config import DictAction


def parse_run_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add the shared arguments to a parser and parse the command line; sets ``LOCAL_RANK`` as mmengine wants it."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; default work_dirs/<config name>')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='changes to the config, e.g. data_root=/datasets/coco/ train_dataloader.batch_size=4')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    try:
        args = parser.parse_args()
    except ValueError:                          # mmengine's DictAction raises it of an option without "="
        parser.error('--cfg-options takes KEY=VALUE, e.g. train_dataloader.batch_size=4')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args
