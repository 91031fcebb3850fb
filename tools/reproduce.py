"""The commands of the trainings that the results tables lack: python tools/reproduce.py.

Rows of which a work dir has a finished run are left out. GPU hours are estimated where an iteration
of the config was measured in a run, and are otherwise not given.
"""

from kw_mm.analysis.reproduce import reproduce
from kw_mm.analysis.results import METAFILES
from kw_mm.command_line import command, tool_parser


@command
def main() -> None:
    parser = tool_parser(
        __doc__,
        'reproduce --table coco --gpus 8                            # print the commands',
        'reproduce --table imagenet --table ablation --slurm gpu --output jobs.sh',
    )
    parser.add_argument(
        '--table',
        action='append',
        choices=list(METAFILES),
        help='rows of this table; can be repeated; default all',
    )
    parser.add_argument('--gpus', type=int, default=8, help='for each run; default %(default)s')
    parser.add_argument('--slurm', metavar='PARTITION', help='write jobs for a Slurm cluster')
    parser.add_argument(
        '--work-dirs',
        default='work_dirs',
        metavar='DIR',
        help='folder with a work dir for each config; default %(default)s',
    )
    parser.add_argument('--output', metavar='FILE.sh', help='write a script instead of printing')
    args = parser.parse_args()
    script = reproduce(
        args.table or (),
        gpus=args.gpus,
        slurm=args.slurm,
        work_dirs=args.work_dirs,
        output=args.output,
    )
    print(f'written: {args.output}' if args.output else script, end='\n' if args.output else '')


if __name__ == '__main__':
    main()
