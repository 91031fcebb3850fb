"""Runs beside the paper's figures: python tools/results.py WORK_DIRS...

Of every training run found in the folders and below them: how far it came, its scores (last and
best) beside the paper's, temperature, time of an iteration, memory and GPU.
"""

from kw_mm.analysis.results import results
from kw_mm.command_line import command, tool_parser


@command
def main() -> None:
    parser = tool_parser(
        __doc__,
        'results work_dirs/                                 # all runs',
        'results work_dirs/ --markdown > results.md',
        'results work_dirs/ --update docs/results.md        # fill in the column "ours"',
    )
    parser.add_argument(
        'work_dirs', nargs='+', metavar='WORK_DIRS', help='work dirs, or folders that have them'
    )
    parser.add_argument('--markdown', action='store_true', help='print Markdown tables')
    parser.add_argument(
        '--update',
        metavar='FILE.md',
        help='put the scores of finished runs on all of COCO or ImageNet into the column "ours" of '
        "a page like docs/results.md, where the run has its config's settings",
    )
    args = parser.parse_args()
    results(args.work_dirs, markdown=args.markdown, update=args.update)


if __name__ == '__main__':
    main()
