"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT."""

import argparse

from kw_mm.command_line import command, parse_run_args
from kw_mm.training.launch import test


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, in any layout')
    parser.add_argument(
        '--show-dir', help='draw predictions beside the ground truth into this folder'
    )
    parser.add_argument('--out', metavar='FILE.pkl', help='save all predictions')
    return parse_run_args(parser)


if __name__ == '__main__':
    command(test)(parse_args())
