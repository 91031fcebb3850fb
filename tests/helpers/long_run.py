"""Train a small KW Mask R-CNN for long and watch memory, file handles and data workers.

    python tests/helpers/long_run.py

The whole loop of tools/train.py: two data workers, log files, a checkpoint each epoch, an
evaluation every second one. Resident memory also holds what glibc keeps of freed memory, which
grows by steps when checkpoints are written until it settles; the heap in use is what would show a
leak. Linux with glibc 2.33 or newer only.
"""

import argparse
import ctypes
import json
import os
import runpy
import sys
import tempfile
from pathlib import Path

import numpy as np
from killing import CONFIG
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

ROOT = Path(__file__).resolve().parents[2]
WATCHED = (
    CONFIG
    + """
train_dataloader.update(batch_size=2)
train_cfg.update(max_epochs={epochs})
default_hooks['logger'].update(interval=50)
param_scheduler = [dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False)]
custom_hooks = [
    dict(type='EpochSeedHook'), dict(type='AttentionTemperatureHook', duration={epochs} / 2),
    dict(type='ResourceHook', file={watched!r})]
"""
)
EPOCHS = 10
MEBIBYTE = 2**20


def memory(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            'arena',
            'ordblks',
            'smblks',
            'hblks',
            'hblkhd',
            'usmblks',
            'fsmblks',
            'uordblks',
            'fordblks',
            'keepcost',
        )
    ]


def heap_in_use() -> int:
    """Bytes that this process has allocated with malloc and not freed."""
    function = ctypes.CDLL(None).mallinfo2
    function.restype = _Mallinfo2
    return function().uordblks


def children(pid: int) -> dict[int, str]:
    """State letter of every child of a process, the dead that nobody waited for (Z) included."""
    found = {}
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, parent = path.read_text().rpartition(')')[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if int(parent) == pid:
            found[int(path.parent.name)] = state
    return found


@HOOKS.register_module()
class ResourceHook(Hook):
    """Writes, every ``interval`` iterations, what the process and its workers hold."""

    def __init__(self, file: str, interval: int = 10):
        self.file, self.interval = open(file, 'w'), interval

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        pid = os.getpid()
        workers = children(pid)
        json.dump(
            dict(
                iteration=runner.iter + 1,
                epoch=runner.epoch,
                memory=memory(pid),
                heap=heap_in_use(),
                handles=len(os.listdir('/proc/self/fd')),
                workers=workers,
                worker_memory=max(map(memory, workers), default=0),
            ),
            self.file,
        )
        self.file.write('\n')
        self.file.flush()


def summarise(samples: list[dict]) -> dict:
    """What a run held; slopes (MiB per 1000 iterations) are fitted to its second half."""
    half = samples[len(samples) // 2 :]

    def slope(key: str) -> float:
        return (
            float(np.polyfit([s['iteration'] for s in half], [s[key] for s in half], 1)[0])
            * 1000
            / MEBIBYTE
        )

    return dict(
        iterations=samples[-1]['iteration'],
        memory_mib=round(half[-1]['memory'] / MEBIBYTE),
        memory_slope=round(slope('memory'), 2),
        heap_mib=round(half[-1]['heap'] / MEBIBYTE),
        heap_slope=round(slope('heap'), 2),
        worker_memory_slope=round(slope('worker_memory'), 2),
        handles_first_half=max(s['handles'] for s in samples[: len(samples) // 2]),
        handles_second_half=max(s['handles'] for s in half),
        workers=sorted({len(s['workers']) for s in samples}),
        worker_states=sorted({state for s in samples for state in s['workers'].values()}),
        worker_generations=len({tuple(sorted(s['workers'])) for s in samples}),
        epochs=samples[-1]['epoch'] + 1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--iterations', type=int, default=2000)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT / 'examples'))
    from shapes import write_shapes

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shapes(
            str(folder / 'shapes'),
            num_train=2 * args.iterations // EPOCHS,
            num_val=4,
            size=64,
            seed=0,
        )
        (folder / 'long.py').write_text(
            WATCHED.format(
                base=str(ROOT / 'configs/demo/mask_rcnn_kw_shapes.py'),
                data=f'{folder}/shapes/',
                epochs=EPOCHS,
                watched=f'{folder}/watched.jsonl',
            )
        )
        sys.argv = ['train.py', str(folder / 'long.py'), '--work-dir', str(folder / 'run')]
        runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')
        samples = [json.loads(line) for line in (folder / 'watched.jsonl').read_text().splitlines()]
    print(json.dumps(summarise(samples)))


if __name__ == '__main__':
    main()
