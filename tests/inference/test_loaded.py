"""kw_mm.load: three lines from a checkpoint to boxes, masks and pictures."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from prediction import CONFIG
from pycocotools import mask as run_lengths
from run_folder import write_run
from run_tools import ROOT

import kw_mm
from kw_mm.building import build_model
from kw_mm.errors import UserError
from kw_mm.inference import Classifier, Detector, KWDetInferencer
from kw_mm.inference.saved_config import config_of
from kw_mm.run_config import load_config

CLASSIFIER = str(ROOT / 'configs/demo/kw_mbv2_imagenet_mini.py')
SHAPES = ('ellipse', 'rectangle', 'triangle', 'star', 'cross')
LOW = 0.05


@pytest.fixture(scope='module')
def detector(weights):
    return kw_mm.load('demo/mask_rcnn_kw_shapes', weights, 'cpu')


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'classifier.pth'
    torch.save(build_model(load_config(CLASSIFIER)).state_dict(), path)
    return kw_mm.load(CLASSIFIER, path, 'cpu')


@pytest.fixture
def picture(pictures):
    return str(pictures / '000000000009.png')


def same(one, other):
    for name in ('boxes', 'scores', 'labels', 'masks'):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_a_detector(detector, picture):
    assert isinstance(detector, Detector) and detector.names == SHAPES
    (found,) = detector(picture, score_thr=LOW)
    expected = KWDetInferencer.__call__(detector.infer, picture)['predictions'][0]
    kept = [score > LOW for score in expected['scores']]
    assert 0 < sum(kept) == len(found)
    for name, key in (('boxes', 'bboxes'), ('scores', 'scores'), ('labels', 'labels')):
        np.testing.assert_allclose(getattr(found, name), np.array(expected[key])[kept], rtol=1e-6)
    assert found.names == [SHAPES[label] for label in found.labels]
    assert found.path == picture and found.size == (128, 128) and found.image_id == 9
    assert found.masks.shape == (len(found), 128, 128) and found.masks.dtype == bool
    kinds = [getattr(found, name).dtype for name in ('boxes', 'scores', 'labels')]
    assert kinds == [np.float32, np.float32, np.int64]
    assert repr(found).startswith(f'Detections({picture}, 128 x 128: ')
    assert len(detector(picture, score_thr=1)[0]) == 0


def test_everything_that_is_an_image_gives_the_same(detector, picture):
    array = cv2.imread(picture)
    rgb = np.ascontiguousarray(array[..., ::-1])
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    given = [picture, array, Image.open(picture), tensor, tensor / 255]
    (expected,) = detector(picture, score_thr=LOW)
    found = detector.predict(given, score_thr=LOW, batch_size=2)
    assert len(found) == len(given) and [one.image_id for one in found] == [1, 2, 3, 4, 5]
    for one in found:
        np.testing.assert_allclose(one.boxes, expected.boxes, rtol=1e-4, atol=1e-3)
        assert one.names == expected.names
    for one in found[:2]:
        assert np.array_equal(one.plot(), expected.plot())


def test_folders_and_streams(detector, pictures):
    found = detector(pictures, score_thr=LOW)
    assert [one.image_id for one in found] == [7, 8, 9]
    assert [one.size for one in found] == [(64, 96), (96, 64), (128, 128)]
    stream = detector.stream(str(pictures), score_thr=LOW)
    same(next(stream), found[0])


def test_pictures(detector, picture, tmp_path):
    (found,) = detector(picture, score_thr=LOW)
    drawn = found.plot()
    assert drawn.shape == (128, 128, 3) and drawn.dtype == np.uint8
    stock = detector.infer(picture, return_vis=True, pred_score_thr=LOW)['visualization'][0]
    assert np.array_equal(drawn, stock[..., ::-1])  # BGR
    assert found.save(tmp_path / 'new' / 'drawn.png').is_file()
    assert np.array_equal(cv2.imread(str(tmp_path / 'new' / 'drawn.png')), drawn)
    shown = cv2.imdecode(np.frombuffer(found._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(shown, drawn)
    with pytest.raises(UserError, match="'.*drawn.txt' must be writable"):
        found.save(tmp_path / 'drawn.txt')


def test_other_forms(detector, picture, monkeypatch):
    (found,) = detector(picture, score_thr=LOW)
    entries = found.to_coco()
    assert len(entries) == len(found)
    for entry, box, label, mask in zip(entries, found.boxes, found.labels, found.masks):
        assert entry['image_id'] == 9 and entry['category_id'] == label + 1
        assert entry['file_name'] == '000000000009.png'
        x, y, width, height = entry['bbox']
        np.testing.assert_allclose([x, y, x + width, y + height], box, rtol=1e-5)
        assert np.array_equal(run_lengths.decode(entry['segmentation']), mask)
    assert {entry['image_id'] for entry in found.to_coco(3)} == {3}
    monkeypatch.setitem(sys.modules, 'supervision', SimpleNamespace(Detections=dict))
    form = found.to_supervision()
    assert form['xyxy'] is found.boxes and form['mask'] is found.masks
    assert list(form['data']['class_name']) == found.names
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(UserError, match='pip install supervision'):
        found.to_supervision()


def test_supervision(detector, pictures):
    supervision = pytest.importorskip('supervision')
    for found in detector(pictures, score_thr=LOW):
        form = found.to_supervision()
        assert isinstance(form, supervision.Detections) and len(form) == len(found)
        assert np.array_equal(form[:1].mask, found.masks[:1])
    (nothing,) = detector(str(pictures / '000000000009.png'), score_thr=1)
    assert len(nothing.to_supervision()) == 0


def test_a_classifier(classifier, picture, tmp_path):
    assert isinstance(classifier, Classifier)
    first, second = classifier([picture, cv2.imread(picture)], batch_size=2)
    assert np.array_equal(first.labels, second.labels)
    scores = classifier.infer(picture)[0]['pred_scores']
    np.testing.assert_allclose(first.probabilities, scores, rtol=1e-5)
    assert first.label == int(scores.argmax()) and first.score == float(first.scores[0])
    assert first.name == first.names[0] == classifier.names[first.label]
    assert len(first.labels) == 5 and len(classifier(picture, top_k=2)[0].scores) == 2
    assert repr(second) == f'Classification(128 x 128: {first.name} {first.score:.2f})'
    drawn = cv2.imread(str(first.save(tmp_path / 'drawn.png')))
    assert drawn.shape == (128, 128, 3) and not np.array_equal(drawn, cv2.imread(picture))
    with pytest.raises(ValueError, match='top_k must be a positive integer, got top_k=0'):
        classifier(picture, top_k=0)


def test_a_checkpoint_has_its_config_in_it(weights, picture, tmp_path, detector):
    config, checkpoint = write_run(tmp_path, CONFIG, torch.load(weights, weights_only=True), SHAPES)
    (expected,) = detector(picture, score_thr=LOW)
    for options in ((checkpoint,), (config, checkpoint)):
        (found,) = kw_mm.load(*options, device='cpu')(picture, score_thr=LOW)
        same(found, expected)
    assert config_of((tmp_path / 'config.py').read_text()) == load_config(config).to_dict()


@pytest.mark.parametrize(
    'line',
    [
        "import os; model = dict(type='x')",
        "model = __import__('os').system('echo no')",
        'model = [x for x in ()]',
        'model = dict(a, b=1)',
        'model = dict(**a)',
        'model = open',
        'model = float("inf")',
    ],
)
def test_a_saved_config_is_not_executed(line):
    with pytest.raises(ValueError):
        config_of(line)


def test_without_a_checkpoint(weights, picture, monkeypatch, capfd):
    said = []
    monkeypatch.setattr(
        'kw_mm.inference.inferencers.print_log', lambda line, **options: said.append(line)
    )
    cfg = load_config(CONFIG)
    model = kw_mm.load(cfg, device='cpu')
    assert len(said) == 1 and said[0].startswith('no checkpoint is given: all weights are random')
    assert len(model(picture, score_thr=0)[0]) > 0
    torch.save(model.network.backbone.state_dict(), weights.with_name('backbone.pth'))
    path = str(weights.with_name('backbone.pth'))
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=path)
    begun = kw_mm.load(cfg, device='cpu').network.backbone.state_dict()
    assert f'weights are those of {path}, all others are random' in said[1]
    assert all(torch.equal(begun[key], v) for key, v in model.network.backbone.state_dict().items())
    assert 'NormalInit' not in capfd.readouterr().out


@pytest.mark.parametrize(
    'options, sentence',
    [
        ((), 'needs a config, or a checkpoint that a run has saved, got neither'),
        (('mask_rcnn_kw_r50',), "has no config 'mask_rcnn_kw_r50'"),
        (('nowhere.pth',), "'nowhere.pth' does not exist"),
    ],
)
def test_what_cannot_be_loaded(options, sentence):
    with pytest.raises(UserError, match=sentence):
        kw_mm.load(*options)


def test_a_checkpoint_without_a_config(weights):
    with pytest.raises(UserError, match='has no config in it; name the config'):
        kw_mm.load(weights)


def test_optimized(weights, pictures):
    model = kw_mm.load(CONFIG, weights, 'cpu')
    expected = model(pictures, score_thr=LOW)
    assert model.optimize_for_inference() is model
    for one, other in zip(model(pictures, score_thr=LOW), expected):
        assert one.names == other.names
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4)


def test_benchmark(detector, classifier, pictures, capsys):
    timing = detector.benchmark(size=(60, 80), batch_size=2, repetitions=3)
    assert timing.image_size == (60, 80) and timing.input_size == (128, 128)
    assert 0 < timing.fastest <= timing.milliseconds <= timing.slowest
    assert timing[3:5] == (3, 2) and timing.device == 'cpu'
    assert f'{timing.milliseconds:.1f} ms per image (median of 3' in capsys.readouterr().out
    timing = classifier.benchmark(pictures, batch_size=3, repetitions=1)
    assert timing.image_size == (64, 96) and timing.input_size == (224, 224)
