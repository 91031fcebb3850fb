"""Pictures to predict on, and the arguments that tools/predict.py would parse."""

from argparse import Namespace

import cv2
import numpy as np
from run_tools import ROOT

CONFIG = str(ROOT / 'configs/demo/mask_rcnn_kw_shapes.py')


def blobs(seed, size):
    """A picture with coloured spots."""
    rng = np.random.RandomState(seed)
    return cv2.resize(
        rng.randint(0, 255, (8, 8, 3), np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST
    )


def arguments(checkpoint, *inputs, out_dir, config=CONFIG, score_thr=0.1, options=None):
    """As tools/predict.py parses them."""
    return Namespace(
        config=str(config),
        checkpoint=str(checkpoint),
        inputs=[str(path) for path in inputs],
        device='cpu',
        out_dir=str(out_dir),
        score_thr=score_thr,
        cfg_options=options,
    )
