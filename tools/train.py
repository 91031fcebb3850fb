"""Train a detector or a classifier: python tools/train.py CONFIG."""
import argparse
import os

from mmengine.config import DictAction

from kw_mm.engine import command
from kw_mm.engine.launch import train


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, e.g. configs/mask_rcnn_kw_r50_1x_coco.py')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; default work_dirs/<config name>')
    parser.add_argument('--amp', action='store_true', help='mixed precision (GPU)')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the total batch size')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='FILE',
                        help='continue from FILE, or from the newest checkpoint in the work dir')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='changes to the config, e.g. data_root=/datasets/coco/ train_dataloader.batch_size=4')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


if __name__ == '__main__':
    command(train)(parse_args())
