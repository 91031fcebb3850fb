"""Kill real training runs and resume them: python tests/helpers/killing.py --kills 20.

Each attempt is a fork of this process that runs tools/train.py. Moments of death, all by the
kernel:

- ``time``: SIGKILL to the whole process group, workers included, at a random moment of the run's
  whole length;
- ``write``: in the middle of writing a checkpoint, at a random byte (a limit on file sizes whose
  signal is not handled);
- ``sync``: SIGKILL at a flush to the disk, that is between two steps of replacing a checkpoint or
  ``last_checkpoint``;
- ``damage``: SIGKILL after two checkpoints, of which the newer is then cut short, as by a disk that
  lied about a flush.

After each death all checkpoints that have their names must be whole. Every logged step of every
attempt, those that are repeated included, must equal the same step of a run that nothing happened
to.
"""

import argparse
import itertools
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from forked_tools import ROOT, import_everything, start, wait

CONFIG = """
_base_ = {base!r}
data_root = {data!r}
model = dict(backbone=dict(drop_path_rate=0.2))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5), dict(type='RandomChoiceResize', scales=[(48, 48), (64, 64)]),
    dict(type='PhotoMetricDistortion'), dict(type='PackDetInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=2, persistent_workers=True,
    dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(batch_size=4, dataset=dict(data_root=data_root))
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
train_cfg = dict(max_epochs=4, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=2))
log_processor = dict(window_size=1)
randomness = dict(seed=0)
"""
STEPS = 12  # 4 epochs of 12 images, 4 at a time
COMPARED = (
    'loss',
    'loss_cls',
    'loss_bbox',
    'loss_mask',
    'loss_rpn_cls',
    'loss_rpn_bbox',
    'lr',
    'temperature',
    'grad_norm',
)
PATTERN = ('time', 'write', 'time', 'sync', 'damage')


def prepare(folder: Path) -> Path:
    """Draw the images and write the config."""
    sys.path.insert(0, str(ROOT / 'examples'))
    from shapes import write_shapes

    write_shapes(str(folder / 'shapes'), num_train=12, num_val=4, size=64, seed=0)
    config = folder / 'small.py'
    config.write_text(
        CONFIG.format(
            base=str(ROOT / 'configs/demo/mask_rcnn_kw_shapes.py'), data=f'{folder}/shapes/'
        )
    )
    return config


def begin(config: Path, work_dir: Path, arm=None) -> int:
    """Start tools/train.py, with --resume if there is something to resume from; its process id."""
    from kw_mm.training.resuming import checkpoints_of

    resume = ['--resume'] if checkpoints_of(str(work_dir)) else []
    return start(
        'train', [config, '--work-dir', work_dir, *resume], work_dir.with_suffix('.log'), arm
    )


def die_at_sync(number: int) -> None:
    """Kill this process at its n-th flush of a file or folder."""
    calls, flush = itertools.count(1), os.fsync

    def watched(handle):
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(handle)

    os.fsync = watched


def die_at_byte(number: int) -> None:
    """Let the kernel end this process when a file becomes larger than that."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))


def attempt(moment: str, config: Path, work_dir: Path, reference: dict, rng: random.Random) -> bool:
    """One attempt; whether it was killed before it could finish."""
    if moment == 'time':
        status = wait(begin(config, work_dir), rng.uniform(0, reference['seconds']))
    elif moment == 'write':
        number = rng.randrange(reference['bytes'] // 4, reference['bytes'])
        status = wait(begin(config, work_dir, lambda: die_at_byte(number)))
    else:
        # a checkpoint and its last_checkpoint are four flushes
        number = 9 if moment == 'damage' else rng.randrange(1, 9)
        status = wait(begin(config, work_dir, lambda: die_at_sync(number)))
    if status not in (0, -signal.SIGKILL, -signal.SIGXFSZ):
        raise AssertionError(
            f'exit status {status}:\n{work_dir.with_suffix(".log").read_text()[-3000:]}'
        )
    return status != 0


def check_files(work_dir: Path, damaged: bool) -> bool:
    """Whether a checkpoint was being written.

    Raises:
        AssertionError: One that has its name is not whole, and we did not do that.
    """
    from kw_mm.training.resuming import checkpoints_of, problem_of

    for path in work_dir.glob('*.pth') if not damaged else []:
        assert not problem_of(path), (path, problem_of(path))
    assert all(path.exists() for path in checkpoints_of(str(work_dir)))
    assert len(list(work_dir.glob('epoch_*.pth'))) <= 3
    return bool(list(work_dir.glob('.*.pth.part')))


def damage_newest(work_dir: Path, rng: random.Random) -> bool:
    """Cut the newest checkpoint short, if there is another one."""
    from kw_mm.training.resuming import checkpoints_of

    paths = checkpoints_of(str(work_dir))
    if len(paths) > 1:
        os.truncate(paths[0], rng.randrange(paths[0].stat().st_size))
    return len(paths) > 1


def logged(work_dir: Path):
    """Every logged training step of all attempts, of whose last lines a part can be lacking."""
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines(keepends=True):
            record = json.loads(line) if line.endswith('\n') else {}
            if 'loss' in record:
                yield record['step'], {key: record[key] for key in COMPARED}


def check_finished(work_dir: Path, reference: dict) -> int:
    """Compare a finished run with the reference; the number of logged steps compared."""
    files = sorted(path.name for path in work_dir.iterdir() if path.suffix in ('.pth', '.part'))
    assert [name for name in files if not name.startswith('best')] == [
        'epoch_3.pth',
        'epoch_4.pth',
    ], files
    records = list(logged(work_dir))
    assert {step for step, _ in records} == set(range(1, STEPS + 1))
    for step, record in records:
        assert record == reference['steps'][step], (step, record, reference['steps'][step])
    return len(records)


def measure_reference(config: Path, work_dir: Path) -> dict:
    """Train without being disturbed."""
    started = time.monotonic()
    status = wait(begin(config, work_dir))
    assert status == 0, work_dir.with_suffix('.log').read_text()[-3000:]
    steps = dict(logged(work_dir))
    assert (
        len(steps) == STEPS and len({record['temperature'] for record in steps.values()}) == STEPS
    )
    return dict(
        steps=steps,
        seconds=time.monotonic() - started,
        bytes=(work_dir / 'epoch_4.pth').stat().st_size,
    )


def run(
    config: Path,
    work_dir: Path,
    kills: int,
    moments: Iterator[str],
    reference: dict,
    rng: random.Random,
    report: dict,
):
    """Kill a run so many times, let it finish, and check it; adds to the report."""
    work_dir.mkdir()
    finished = damaged = False
    while not finished and kills:
        moment = next(moments)
        finished = not attempt(moment, config, work_dir, reference, rng)
        report['finished_early'] += finished
        if not finished:
            kills -= 1
            report['kills'] += 1
            report['by_moment'][moment] += 1
            report['in_writing'] += check_files(work_dir, damaged)
            if moment == 'damage' and damage_newest(work_dir, rng):
                damaged = True
                report['damaged'] += 1
    if not finished:
        status = wait(begin(config, work_dir))
        assert status == 0, work_dir.with_suffix('.log').read_text()[-3000:]
    assert damaged == ('is skipped, it is truncated' in work_dir.with_suffix('.log').read_text())
    report['runs'] += 1
    report['steps_compared'] += check_finished(work_dir, reference)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--per-run', type=int, default=5, help='kills after which a run may finish')
    parser.add_argument(
        '--moments', nargs='+', choices=('time', 'write', 'sync', 'damage'), default=PATTERN
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    import_everything()
    rng, moments = random.Random(args.seed), itertools.cycle(args.moments)
    report = dict(
        kills=0,
        in_writing=0,
        damaged=0,
        runs=0,
        finished_early=0,
        steps_compared=0,
        by_moment=Counter(),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = prepare(folder)
        reference = measure_reference(config, folder / 'reference')
        report['seconds_undisturbed'] = round(reference['seconds'], 1)
        while report['kills'] < args.kills:
            most = min(args.per_run, args.kills - report['kills'])
            run(config, folder / f'run{report["runs"]}', most, moments, reference, rng, report)
    print(json.dumps(report))


if __name__ == '__main__':
    main()
