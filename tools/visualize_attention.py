"""Draw attention: python tools/visualize_attention.py CONFIG CHECKPOINT [IMAGE...].

Which layers attend to which cells of a model's warehouses: PNG files, and a page with all of them.
"""

from kw_mm.attention.visualize import visualize_attention
from kw_mm.command_line import CfgOptions, command, tool_parser


@command
def main() -> None:
    parser = tool_parser(
        __doc__, 'visualize-attention mask_rcnn_kw_r50_1x_coco epoch_12.pth --out attention'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', help='checkpoint file in any layout, or a work dir: all its checkpoints'
    )
    parser.add_argument(
        'images', nargs='*', help='image files or folders; default the first validation images'
    )
    parser.add_argument(
        '--number', type=int, default=8, help='how many validation images; default 8'
    )
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        default=[],
        metavar='FILE',
        help='earlier checkpoints of the run, to see how attention moves',
    )
    parser.add_argument('--out', default='attention', help='folder to write to; default attention/')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='changes to the config',
    )
    print(visualize_attention(parser.parse_args()))


if __name__ == '__main__':
    main()
