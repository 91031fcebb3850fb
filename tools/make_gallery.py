"""Lay out pictures on one sheet: python tools/make_gallery.py FOLDER FILE.png."""

from kw_mm.command_line import command, tool_parser
from kw_mm.files import check_file
from kw_mm.inference.gallery import write_gallery


@command
def main() -> None:
    parser = tool_parser(__doc__, 'make-gallery pictures gallery.png --columns 4')
    parser.add_argument('folder', help='folder with pictures, e.g. of tools/test.py --show-dir')
    parser.add_argument('file', help='image file to write')
    parser.add_argument('--columns', type=int, default=3)
    parser.add_argument('--most', type=int, default=9, help='how many pictures')
    args = parser.parse_args()
    check_file(args.file, 'file')
    print(write_gallery(args.folder, args.file, columns=args.columns, most=args.most))


if __name__ == '__main__':
    main()
