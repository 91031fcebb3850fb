"""Parameters, multiply-adds and warehouses of models: python tools/analyze_model.py CONFIG..."""

from kw_mm.analysis.report import analyze_and_print
from kw_mm.command_line import command, tool_parser


@command
def main() -> None:
    parser = tool_parser(
        __doc__,
        'analyze-model mask_rcnn_kw_r50_1x_coco mask_rcnn_r50_1x_coco   # beside the plain one',
        'analyze-model imagenet/kw_r50_300e_in1k --markdown',
    )
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
