"""The folder of a run, as mmengine's runner leaves it: its config, and a checkpoint."""

import pytest
import torch
from in_process import unformatted
from mmengine.config import config as mmengines
from mmengine.logging import HistoryBuffer

from kw_mm.run_config import load_config


def write_run(folder, config, state_dict, classes):
    """Write a run's config and a checkpoint of its own; returns both paths."""
    cfg = load_config(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmengines, 'FormatCode', unformatted)
        text = cfg.pretty_text
    path = folder / 'config.py'
    path.write_text(text)
    losses = HistoryBuffer()
    losses.update(0.5)
    checkpoint = dict(
        meta=dict(cfg=text, dataset_meta=dict(classes=classes), epoch=1, iter=10, seed=0),
        state_dict=state_dict,
        message_hub=dict(log_scalars={'train/loss': losses}, runtime_info=dict(cfg=text)),
        optimizer=dict(state={}, param_groups=[dict(lr=0.1, params=[0])]),
        param_schedulers=[dict(last_step=1)],
    )
    torch.save(checkpoint, folder / 'epoch_1.pth')
    return str(path), str(folder / 'epoch_1.pth')
