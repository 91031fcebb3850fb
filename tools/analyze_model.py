"""Parameters, multiply-adds and warehouses of models: python tools/analyze_model.py CONFIG..."""

import argparse

from kw_mm.analysis.report import analyze_and_print
from kw_mm.command_line import command


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files')
    parser.add_argument('--markdown', action='store_true', help='print Markdown tables')
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='size of the image; default 224 224, and 800 1280 for detectors',
    )
    args = parser.parse_args()
    analyze_and_print(args.configs, args.size, markdown=args.markdown)


if __name__ == '__main__':
    main()
