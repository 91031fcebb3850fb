"""A training run on a disk that fills up."""

import json
import os
import subprocess
import sys

import pytest
import torch
from run_tools import ROOT


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 48 MiB, which root can mount."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip('needs to mount a small disk')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


def forked(*lines):
    """Command lines of tools/, one after the other: [(exit status, output)]."""
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tests/helpers/forked_tools.py')],
        input=json.dumps(lines),
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_the_run_ends_with_one_error_and_its_checkpoints_are_intact(
    small_disk, small_config, shapes
):
    run = small_disk / 'run'
    train = [
        'train',
        str(small_config),
        '--work-dir',
        str(run),
        '--cfg-options',
        f'data_root={shapes}',
        'default_hooks.checkpoint.max_keep_ckpts=-1',
        'train_cfg.max_epochs=40',
        'train_cfg.val_interval=50',
    ]
    (status, output), (again, output_again) = forked(train, [*train[:4], '--resume', *train[4:]])
    for code, text in ((status, output), (again, output_again)):
        errors = [line for line in text.splitlines() if line.startswith('error: ')]
        assert code == 2 and len(errors) == 1 and 'Traceback' not in text, text[-3000:]
        assert (
            'could not be written (No space left on device); earlier checkpoints are intact'
            in errors[0]
        )
    saved = sorted(run.glob('epoch_*.pth'), key=lambda path: int(path.stem[6:]))
    assert len(saved) >= 1 and not list(run.glob('.*.part'))
    for path in saved:
        assert torch.load(path, weights_only=False)['optimizer']['state']
    assert (run / 'last_checkpoint').read_text() == str(saved[-1])
