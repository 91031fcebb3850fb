"""Plot loss, temperature, learning rate and scores of runs: python tools/plot_run.py WORK_DIR... --out FILE.png."""
import argparse

from kw_mm.engine import UserError, command
from kw_mm.visualization import plot_runs


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', help='work dirs of training runs')
    parser.add_argument('--out', default='run.png', help='image file to write; default run.png')
    args = parser.parse_args()
    try:
        print(plot_runs(args.work_dirs, args.out))
    except FileNotFoundError as error:
        raise UserError(str(error)) from error


if __name__ == '__main__':
    main()
