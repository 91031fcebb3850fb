"""Kill real training runs and resume them until they finish: python tests/killing.py --kills 20.

One process imports everything; each attempt is a fork of it that runs tools/train.py, so that 20 attempts cost 20 starts
of a run, not of an interpreter. Moments of death, all by the kernel:

- ``time``: SIGKILL to the whole process group, workers included, at a random moment of the run's whole length;
- ``write``: in the middle of writing a checkpoint, at a random byte (a limit on file sizes whose signal is not handled);
- ``sync``: SIGKILL at a flush to the disk, that is between two steps of replacing a checkpoint or ``last_checkpoint``.

After each death all checkpoints that have their names must be whole. Every logged step of every attempt, those that are
repeated included, must equal the same step of a run that nothing happened to.
"""
import argparse
import itertools
import json
import os
import random
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
_base_ = {base!r}
data_root = {data!r}
model = dict(backbone=dict(drop_path_rate=0.2))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5), dict(type='RandomChoiceResize', scales=[(48, 48), (64, 64)]),
    dict(type='PhotoMetricDistortion'), dict(type='PackDetInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=2, persistent_workers=True, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(batch_size=4, dataset=dict(data_root=data_root))
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
train_cfg = dict(max_epochs=4, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=2))
log_processor = dict(window_size=1)
randomness = dict(seed=0)
"""
STEPS = 12                                          # 4 epochs of 12 images, 4 at a time
COMPARED = ('loss', 'loss_cls', 'loss_bbox', 'loss_mask', 'loss_rpn_cls', 'loss_rpn_bbox', 'lr', 'temperature', 'grad_norm')
PATTERN = ('time', 'write', 'time', 'sync', 'time')


def prepare(folder: Path) -> Path:
    """Draw the images and write the config."""
    from kw_mm.datasets import write_shapes
    write_shapes(str(folder / 'shapes'), num_train=12, num_val=4, size=64, seed=0)
    config = folder / 'small.py'
    config.write_text(CONFIG.format(base=str(ROOT / 'configs/demo/mask_rcnn_kw_shapes.py'), data=f'{folder}/shapes/'))
    return config


def start(config: Path, work_dir: Path, arm=None) -> int:
    """Fork a process that runs tools/train.py, resuming if there is something to resume from; its id."""
    from kw_mm.engine.resuming import checkpoints_of
    arguments = ['train.py', str(config), '--work-dir', str(work_dir)] + ['--resume'] * bool(checkpoints_of(str(work_dir)))
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    log = os.open(work_dir.with_suffix('.log'), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    try:
        if arm:
            arm()
        sys.argv = arguments
        runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')
        os._exit(0)
    except SystemExit as stop:
        os._exit(stop.code)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def wait(pid: int, seconds: float = 600) -> int:
    """Wait for a process, at most so long, then kill it and all of its group; its exit status (negative: a signal)."""
    end, status = time.monotonic() + seconds, None
    while status is None and time.monotonic() < end:
        done, code = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else None
        time.sleep(0.002)
    try:
        os.killpg(pid, signal.SIGKILL)              # its workers too
    except ProcessLookupError:
        pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if status is None else status


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
        status = wait(start(config, work_dir), rng.uniform(0, reference['seconds']))
    elif moment == 'write':
        number = rng.randrange(reference['bytes'] // 4, reference['bytes'])
        status = wait(start(config, work_dir, lambda: die_at_byte(number)))
    else:
        number = rng.randrange(1, 9)                # a checkpoint and its last_checkpoint are four flushes
        status = wait(start(config, work_dir, lambda: die_at_sync(number)))
    if status not in (0, -signal.SIGKILL, -signal.SIGXFSZ):
        raise AssertionError(f'exit status {status}:\n{work_dir.with_suffix(".log").read_text()[-3000:]}')
    return status != 0


def check_files(work_dir: Path) -> bool:
    """Whether a checkpoint was being written; raises if one that has its name is not whole."""
    from kw_mm.engine.resuming import checkpoints_of, problem_of
    for path in work_dir.glob('*.pth'):
        assert not problem_of(path), (path, problem_of(path))
    assert all(path.exists() for path in checkpoints_of(str(work_dir)))
    assert len(list(work_dir.glob('epoch_*.pth'))) <= 3
    return bool(list(work_dir.glob('.*.pth.part')))


def logged(work_dir: Path):
    """Every logged training step of all attempts. Of an attempt that was killed the last line can be a part."""
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines(keepends=True):
            record = json.loads(line) if line.endswith('\n') else {}
            if 'loss' in record:
                yield record['step'], {key: record[key] for key in COMPARED}


def check_finished(work_dir: Path, reference: dict) -> int:
    """Compare a finished run with the reference; the number of logged steps compared."""
    files = sorted(path.name for path in work_dir.iterdir() if path.suffix in ('.pth', '.part'))
    assert [name for name in files if not name.startswith('best')] == ['epoch_3.pth', 'epoch_4.pth'], files
    records = list(logged(work_dir))
    assert {step for step, _ in records} == set(range(1, STEPS + 1))
    for step, record in records:
        assert record == reference['steps'][step], (step, record, reference['steps'][step])
    return len(records)


def measure_reference(config: Path, work_dir: Path) -> dict:
    """Train without being disturbed."""
    begin = time.monotonic()
    status = wait(start(config, work_dir))
    assert status == 0, work_dir.with_suffix('.log').read_text()[-3000:]
    steps = dict(logged(work_dir))
    assert len(steps) == STEPS and len({record['temperature'] for record in steps.values()}) == STEPS
    return dict(steps=steps, seconds=time.monotonic() - begin, bytes=(work_dir / 'epoch_4.pth').stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--per-run', type=int, default=5, help='kills after which a run may finish')
    parser.add_argument('--moments', nargs='+', choices=('time', 'write', 'sync'), default=PATTERN)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    from mmdet.utils import register_all_modules

    from kw_mm.engine import launch  # noqa: F401  (imported once, for all forks)
    register_all_modules(init_default_scope=False)
    rng, moments = random.Random(args.seed), itertools.cycle(args.moments)
    report = dict(kills=0, in_writing=0, runs=0, finished_early=0, steps_compared=0, by_moment=Counter())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = prepare(folder)
        reference = measure_reference(config, folder / 'reference')
        report['seconds_undisturbed'] = round(reference['seconds'], 1)
        while report['kills'] < args.kills:
            work_dir = folder / f'run{report["runs"]}'
            work_dir.mkdir()
            finished, before = False, report['kills']
            while not finished and report['kills'] < min(args.kills, before + args.per_run):
                moment = next(moments)
                finished = not attempt(moment, config, work_dir, reference, rng)
                report['in_writing'] += check_files(work_dir)
                if finished:
                    report['finished_early'] += 1
                else:
                    report['kills'] += 1
                    report['by_moment'][moment] += 1
            if not finished:
                status = wait(start(config, work_dir))
                assert status == 0, work_dir.with_suffix('.log').read_text()[-3000:]
            report['runs'] += 1
            report['steps_compared'] += check_finished(work_dir, reference)
    print(json.dumps(report))


if __name__ == '__main__':
    main()
