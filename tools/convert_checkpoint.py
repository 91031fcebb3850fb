"""Convert a checkpoint file: python tools/convert_checkpoint.py SRC DST [--to kw_mm|static|published]."""

import argparse
import os

import torch

from kw_mm.checkpoints.convert import TARGETS, convert
from kw_mm.checkpoints.describing import looks_like
from kw_mm.checkpoints.reading import read_checkpoint
from kw_mm.command_line import command
from kw_mm.errors import UserError
from kw_mm.files import atomic_write


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='checkpoint file, or kw://NAME for a published one')
    parser.add_argument('target', help='file to write')
    parser.add_argument(
        '--to',
        choices=TARGETS,
        default='kw_mm',
        help='kw_mm (default), static: a plain network from one at temperature 1, or published',
    )
    parser.add_argument(
        '--budget', type=float, default=1, help='where plain weights become KW ones; default 1'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace an existing target')
    args = parser.parse_args()
    if os.path.exists(args.target) and not args.overwrite:
        raise UserError(f'{args.target} exists; --overwrite replaces it')
    converted = convert(read_checkpoint(args.source), args.to, budget=args.budget)
    with atomic_write(args.target) as draft:
        torch.save(converted, draft)
    backbone = {
        key[len('backbone.') :]: value
        for key, value in converted['state_dict'].items()
        if key.startswith('backbone.')
    } or converted['state_dict']
    print(f'{args.target}: {looks_like(backbone)}, {len(converted["state_dict"])} tensors')


if __name__ == '__main__':
    main()
