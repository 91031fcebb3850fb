"""Convert a checkpoint file between our layout, the published one and plain networks."""

import os

import torch

from kw_mm.checkpoints.convert import TARGETS, convert
from kw_mm.checkpoints.describing import describe_weights
from kw_mm.checkpoints.reading import read_checkpoint
from kw_mm.checkpoints.state_dicts import under_prefix
from kw_mm.command_line import command, tool_parser
from kw_mm.errors import UserError
from kw_mm.files import atomic_write, check_file


@command
def main() -> None:
    parser = tool_parser(
        __doc__,
        'convert-checkpoint work_dirs/my_run/epoch_12.pth published.pth --to published',
        'convert-checkpoint plain.pth plain_again.pth --to static',
    )
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
    check_file(args.target, 'target')
    converted = convert(read_checkpoint(args.source), args.to, budget=args.budget)
    with atomic_write(args.target) as draft:
        torch.save(converted, draft)
    entries = converted['state_dict']
    backbone = under_prefix(entries, 'backbone.') or entries
    print(f'{args.target}: {describe_weights(backbone)}, {len(entries)} tensors')


if __name__ == '__main__':
    main()
