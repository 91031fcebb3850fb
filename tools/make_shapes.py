"""Write the synthetic data set of the quickstart: python tools/make_shapes.py [FOLDER]."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'examples'))

from shapes import write_shapes  # noqa: E402

from kw_mm.command_line import command, tool_parser
from kw_mm.errors import UserError
from kw_mm.files import check_folder


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'make-shapes                                # into data/shapes',
        'make-shapes data/few --train 100 --val 20',
    )
    parser.add_argument('folder', nargs='?', default='data/shapes', help='default data/shapes')
    parser.add_argument('--train', type=int, default=1000, help='training images')
    parser.add_argument('--val', type=int, default=200, help='held-out images')
    parser.add_argument('--size', type=int, default=256, help='side of the images in pixels')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


@command
def main() -> None:
    args = parse_args()
    check_folder(args.folder, 'folder')
    try:
        root = write_shapes(
            args.folder, num_train=args.train, num_val=args.val, size=args.size, seed=args.seed
        )
    except (ValueError, FileExistsError) as error:
        raise UserError(str(error)) from error
    print(f'{args.train} training and {args.val} held-out images in {root}')


if __name__ == '__main__':
    main()
