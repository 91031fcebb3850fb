"""OpenMMLab's own inferencers take our configs and checkpoints, once kw_mm is imported."""

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmpretrain.apis import ImageClassificationInferencer, get_model
from prediction import CONFIG
from run_folder import write_run
from run_tools import ROOT

from kw_mm.building import build_model
from kw_mm.inference import KWClassificationInferencer, KWDetInferencer
from kw_mm.run_config import load_config

CLASSIFIER = str(ROOT / 'configs/demo/kw_mbv2_imagenet_mini.py')
SHAPES = ('ellipse', 'rectangle', 'triangle', 'star', 'cross')


@pytest.fixture(scope='module')
def detector_run(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    return write_run(folder, CONFIG, torch.load(weights, weights_only=True), SHAPES)


@pytest.fixture(scope='module')
def classifier_run(tmp_path_factory):
    torch.manual_seed(0)
    model = build_model(load_config(CLASSIFIER))
    classes = tuple(f'class {i}' for i in range(model.head.num_classes))
    return write_run(tmp_path_factory.mktemp('run'), CLASSIFIER, model.state_dict(), classes)


@pytest.fixture
def picture(pictures):
    return str(pictures / '000000000009.png')


@pytest.fixture
def detections(detector_run, picture):
    return KWDetInferencer(*detector_run)(picture)['predictions'][0]


@pytest.mark.parametrize('given', ['the runs config', 'our config', 'weights alone'])
def test_mmdets_inferencer(detector_run, picture, detections, given):
    config, checkpoint = detector_run
    models = {'the runs config': config, 'our config': CONFIG, 'weights alone': None}
    stock = DetInferencer(models[given], checkpoint, device='cpu', show_progress=False)
    found = stock(picture, no_save_vis=True)['predictions'][0]
    np.testing.assert_allclose(found['scores'], detections['scores'], rtol=1e-5)
    assert found['labels'] == detections['labels'] and len(found['labels']) > 0
    assert stock.model.dataset_meta['classes'] == SHAPES


def test_mmdets_functions(detector_run, picture, detections):
    model = init_detector(*detector_run, device='cpu')
    found = inference_detector(model, picture).pred_instances
    np.testing.assert_allclose(found.scores.numpy(), detections['scores'], rtol=1e-5)
    assert model.dataset_meta['classes'] == SHAPES


def test_mmpretrains_inferencer_and_function(classifier_run, picture):
    (expected,) = KWClassificationInferencer(*classifier_run)(picture)
    config, checkpoint = classifier_run
    for stock in (
        ImageClassificationInferencer(config, checkpoint),
        ImageClassificationInferencer(get_model(config, pretrained=checkpoint)),
    ):
        (found,) = stock(picture)
        np.testing.assert_allclose(found['pred_scores'], expected['pred_scores'], rtol=1e-5)
        assert found['pred_class'] == expected['pred_class'] == f'class {found["pred_label"]}'
