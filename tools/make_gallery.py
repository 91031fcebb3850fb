"""Lay out the pictures of tools/test.py --show-dir on one sheet: python tools/make_gallery.py FOLDER FILE.png."""

import argparse

import cv2

from kw_mm.command_line import command
from kw_mm.errors import UserError
from kw_mm.inference.gallery import write_gallery


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='folder with pictures')
    parser.add_argument('file', help='image file to write')
    parser.add_argument('--columns', type=int, default=3)
    parser.add_argument('--most', type=int, default=9, help='how many pictures')
    args = parser.parse_args()
    if args.columns < 1 or args.most < 1:
        raise UserError(f'--columns {args.columns} and --most {args.most} must be positive')
    if not cv2.haveImageWriter(args.file):
        raise UserError(f'{args.file} is no name of an image file; end it in .png or .jpg')
    try:
        print(write_gallery(args.folder, args.file, columns=args.columns, most=args.most))
    except FileNotFoundError as error:
        raise UserError(str(error)) from error


if __name__ == '__main__':
    main()
