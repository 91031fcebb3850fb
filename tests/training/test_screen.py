"""Filters of the screen and the progress bar, without a run."""

import io
import logging
from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger
from rich.console import Console

from kw_mm.training.progress_hook import ProgressHook
from kw_mm.training.screen import quiet_screen, without_pycocotools


@pytest.fixture
def logger(tmp_path):
    made = MMLogger('a run', log_file=str(tmp_path / 'run.log'))
    made.file = tmp_path / 'run.log'
    yield made
    for handler in made.handlers:
        handler.close()


@pytest.mark.parametrize(
    'level, message, shown',
    [
        ('info', 'Config:\nmodel = dict()', False),
        ('info', 'Config of mine', True),
        ('info', 'paramwise_options -- a:lr=1', False),
        ('warning', 'paramwise_options -- a has no norm', True),
        ('warning', '"HardDiskBackend" is the alias of "LocalBackend" and the former will', True),
        (
            'warning',
            '"HardDiskBackend" is the alias of "LocalBackend" and the former will be deprecated '
            'in future.',
            False,
        ),
        ('error', 'the loss is not finite', True),
    ],
)
def test_only_known_messages_are_kept_off_the_screen(logger, level, message, shown):
    screen = io.StringIO()
    logger.handlers[0].setStream(screen)
    chosen = quiet_screen(logger)
    assert quiet_screen(logger) is chosen
    getattr(logger, level)(message)
    assert (message in screen.getvalue()) == shown
    assert message in logger.file.read_text()
    assert sum(chosen.hidden.values()) == (not shown and level == 'warning')


def test_only_pycocotools_lines_are_kept_off(capsys):
    with pytest.raises(ValueError, match='here'), without_pycocotools():
        print('loading annotations into memory...\nDone (t=0.01s)\na line of mine\nindex created!')
        raise ValueError('here')
    assert capsys.readouterr().out == 'a line of mine\n'


def test_the_bar_counts_training_and_validation_and_gives_streams_back(logger):
    drawn, before = io.StringIO(), io.StringIO()
    logger.handlers[0].setStream(before)
    bar = ProgressHook(Console(file=drawn, force_terminal=True, width=120))
    runner = SimpleNamespace(
        logger=logger, epoch=1, max_epochs=4, max_iters=40, iter=19, val_dataloader=range(5)
    )
    bar.before_train(runner)
    bar.after_train_iter(runner, 9)
    logger.info('a log line')
    bar.before_val_epoch(runner)
    bar.after_val_iter(runner, 2)
    bar._progress.refresh()
    bar.after_val_epoch(runner)
    assert bar._progress is not None, 'training goes on'
    bar.after_train(runner)
    text = drawn.getvalue()
    for words in ('training, epoch 2/4', '20/40', 'validation', '3/5', 'eta', 'a log line'):
        assert words in text
    logger.info('after it')
    assert 'after it' in before.getvalue()
    assert isinstance(logger.handlers[0], logging.StreamHandler)


def test_a_test_has_its_own_bar(logger):
    drawn = io.StringIO()
    bar = ProgressHook(Console(file=drawn, force_terminal=True, width=120))
    runner = SimpleNamespace(logger=logger, test_dataloader=range(7))
    bar.before_test_epoch(runner)
    bar.after_test_iter(runner, 6)
    bar._progress.refresh()
    bar.after_test_epoch(runner)
    assert '7/7' in drawn.getvalue() and bar._progress is None
    bar.close()
