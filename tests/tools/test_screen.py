"""What a training run shows on a terminal, and Ctrl-C."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from run_tools import ROOT

ESCAPES = re.compile(rb'\x1b\[[0-9;?]*[A-Za-z]')


def train_on_a_terminal(*args, until):
    """Run tools/train.py with a terminal for its output, and interrupt it.

    Args:
        until: A pattern in the output at which SIGINT is sent.

    Returns:
        tuple: What was written to the terminal, and the exit code.
    """
    outside, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', str(ROOT / 'tools/train.py'), *map(str, args)],
        stdout=inside,
        stderr=inside,
        env={**os.environ, 'COLUMNS': '200', 'TERM': 'xterm'},
    )
    os.close(inside)
    seen, sent = b'', False
    while True:
        try:
            part = os.read(outside, 65536)
        except OSError:  # Linux says so at the end
            break
        if not part:
            break
        seen += part
        if not sent and re.search(until, seen):
            process.send_signal(signal.SIGINT)
            sent = True
    os.close(outside)
    return ESCAPES.sub(b'', seen).decode(), process.wait(timeout=120)


@pytest.fixture(scope='module')
def interrupted(small_config, shapes, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('interrupted')
    screen, code = train_on_a_terminal(
        small_config,
        '--work-dir',
        work_dir,
        '--cfg-options',
        f'data_root={shapes}',
        'train_cfg.max_epochs=50',  # it cannot end before the signal is there
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        until=rb'Epoch\(train\).{0,20}\[2\]\[1/3\]',
    )
    return screen, code, work_dir


def test_ctrl_c_says_what_is_saved_and_how_to_continue(interrupted):
    screen, code, work_dir = interrupted
    assert code == 130
    assert 'Traceback' not in screen
    last = screen.strip().splitlines()[-1]
    words = 'is saved, continue with the same command and --resume'
    found = re.fullmatch(rf"interrupted: after iteration \d+ of 150; '(.*)' {words}", last)
    saved = Path(found.group(1))
    assert saved.is_file() and saved == Path((work_dir / 'last_checkpoint').read_text())


def test_the_last_lines_before_training_are_what_a_user_can_act_on(interrupted):
    screen, _, work_dir = interrupted
    before, _, _ = screen.partition('Epoch(train)')
    for line in (
        f'kept in          {work_dir} (a checkpoint every epoch)',
        'weights          none: everything is random',
        'temperature      1 to 0 over the first 4 epochs',
        'training data    12 images of ',
        'schedule         50 epochs, 150 iterations; ',
        'not shown        2 warnings of libraries that need no action',
    ):
        assert line in before.rpartition('Training begins:')[2]
    assert len(before.splitlines()) < 30


def test_long_listings_go_to_the_log_file_only(interrupted):
    screen, _, work_dir = interrupted
    log = next(Path(work_dir).glob('*/*.log')).read_text()
    for words in (
        'System environment:',
        'train_dataloader = dict(',
        'Hooks will be executed',
        'HardDiskBackend',
    ):
        assert words in log
        assert words not in screen
    assert 'loading annotations into memory' not in screen


def test_a_bar_with_the_time_left_stands_below_the_log_lines(interrupted):
    screen, _, _ = interrupted
    assert re.search(r'training, epoch 1/50 +\S+ +\d/150 +0:\d\d:\d\d +eta', screen)
