"""Plot the curves of runs: python tools/plot_run.py WORK_DIR... --out FILE.png.

Loss, temperature, learning rate and scores of one or several runs, on one figure. Repetitions of a
run with other seeds are one line, their mean, with their range: static=WORK_DIR,WORK_DIR,WORK_DIR.
"""

from kw_mm.analysis.curves import plot_runs
from kw_mm.command_line import command, tool_parser


@command
def main() -> None:
    parser = tool_parser(
        __doc__,
        'plot-run work_dirs/a work_dirs/b --out run.png',
        'plot-run kw=work_dirs/a0,work_dirs/a1 plain=work_dirs/b        # mean and range of a0, a1',
    )
    parser.add_argument(
        'work_dirs', nargs='+', help='work dirs of training runs, or NAME=WORK_DIR,...'
    )
    parser.add_argument(
        '--out', default='run.png', help='image file to write, .png, .pdf or .svg; default run.png'
    )
    args = parser.parse_args()
    print(plot_runs(args.work_dirs, args.out))


if __name__ == '__main__':
    main()
