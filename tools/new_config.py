"""Write a config for a data set of your own: python tools/new_config.py DATASET.

It reads what Roboflow, CVAT, Label Studio, FiftyOne and others export in COCO format, says what is
odd in it, and writes a config of less than 40 lines.
"""

from kw_mm.command_line import command, tool_parser
from kw_mm.own_data import new_config


@command
def main() -> None:
    parser = tool_parser(
        __doc__,
        'new-config exports/birds/    # of Roboflow, CVAT, FiftyOne, ...: writes birds.py',
        'new-config exports/birds/ --base faster_rcnn_kw_r50_1x_coco      # boxes without masks',
        'new-config result.json --val-share 0.1 --output mine.py          # one file, to be split',
        'new-config train=a.json val=b.json --output mine.py              # names that do not say',
    )
    parser.add_argument(
        'dataset',
        nargs='+',
        metavar='DATASET',
        help='folder of the export, or annotation files: train=FILE val=FILE test=FILE',
    )
    parser.add_argument(
        '--base',
        default='mask_rcnn_kw_r50_1x_coco',
        help='config to begin with: a name of "kw_mm configs" or a file; default %(default)s',
    )
    parser.add_argument(
        '--output', metavar='FILE.py', help="config to write; default the data set's name"
    )
    parser.add_argument('--overwrite', action='store_true', help='replace files that exist')
    parser.add_argument(
        '--val-share',
        type=float,
        default=0.2,
        help='of the images, for validation, where no file is for it; default %(default)s',
    )
    parser.add_argument('--seed', type=int, default=0, help='of that split; default %(default)s')
    args = parser.parse_args()
    said = new_config(
        args.dataset,
        args.base,
        args.output,
        overwrite=args.overwrite,
        val_share=args.val_share,
        seed=args.seed,
    )
    print(*said, sep='\n')


if __name__ == '__main__':
    main()
