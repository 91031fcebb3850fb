"""mmdet's and mmpretrain's inferencers with kw_mm's configs and checkpoints."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import cv2
import mmdet.utils
import mmpretrain.utils
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmdet.apis import DetInferencer
from mmengine.registry import DefaultScope
from mmpretrain.apis import ImageClassificationInferencer
from prediction import CONFIG, blobs
from run_tools import ROOT

from kw_mm.building import build_model
from kw_mm.errors import ImageError, UserError
from kw_mm.inference import KWClassificationInferencer, KWDetInferencer, load_inferencer
from kw_mm.run_config import load_config

CLASSIFIER = str(ROOT / 'configs/demo/kw_mbv2_imagenet_mini.py')
LOADERS = 'LoadImageFromFile', 'KWLoadImageFromFile'


def with_loader(config, loader):
    cfg = load_config(config)
    cfg.test_dataloader.dataset.pipeline[0] = dict(type=loader)
    return cfg


@pytest.fixture(scope='module')
def classifier_weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'classifier.pth'
    torch.save(build_model(load_config(CLASSIFIER)).state_dict(), path)
    return str(path)


@pytest.fixture
def picture(pictures):
    return str(pictures / '000000000009.png')


@pytest.fixture
def cut_short(tmp_path):
    """A JPEG file whose second half is missing."""
    data = cv2.imencode('.jpg', blobs(0, (128, 128)))[1].tobytes()
    (tmp_path / 'half.jpg').write_bytes(data[: len(data) // 2])
    return str(tmp_path / 'half.jpg')


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_equal(found[key], value)


def test_a_detector_reads_with_the_configs_loader(weights, picture, cut_short):
    stock, careful = (
        KWDetInferencer(with_loader(CONFIG, loader), str(weights)) for loader in LOADERS
    )
    expected = stock(picture, return_vis=True)
    assert expected['predictions'][0]['scores']
    for given in (picture, cv2.imread(picture)):
        found = careful(given, return_vis=True)
        same(found['predictions'][0], expected['predictions'][0])
        assert np.array_equal(found['visualization'][0], expected['visualization'][0])
    with pytest.raises(ImageError, match=r"'.*half.jpg' cannot be read \(the file ends after"):
        careful(cut_short)


def test_a_classifier_reads_with_the_configs_loader(classifier_weights, picture, cut_short, capsys):
    stock, careful = (
        KWClassificationInferencer(with_loader(CLASSIFIER, loader), classifier_weights)
        for loader in LOADERS
    )
    capsys.readouterr()
    (expected,) = stock(picture)
    for given in (picture, cv2.imread(picture)):
        same(careful(given)[0], expected)
    assert expected['pred_class'] == stock.class_names[expected['pred_label']]
    assert not capsys.readouterr().out  # no progress bar
    with pytest.raises(ImageError, match=r"'.*half.jpg' cannot be read \(the file ends after"):
        careful(cut_short)


def test_a_detector_does_not_accept_half_an_image(weights, cut_short):
    with pytest.raises(
        ImageError, match=r"^image '\S+half.jpg' cannot be read \(the file ends after"
    ):
        KWDetInferencer(CONFIG, str(weights))(cut_short)


def test_mmdets_own_inferencer_takes_our_configs(weights, picture):
    stock = DetInferencer(load_config(CONFIG), str(weights), device='cpu', show_progress=False)
    found = stock(picture, no_save_vis=True)['predictions'][0]
    ours = KWDetInferencer(CONFIG, str(weights))(picture)['predictions'][0]
    np.testing.assert_allclose(found['scores'], ours['scores'], rtol=1e-5)
    assert found['labels'] == ours['labels']


def test_mmpretrains_own_inferencer_takes_our_configs(classifier_weights, picture):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        stock = ImageClassificationInferencer(load_config(CLASSIFIER), classifier_weights)
        (found,) = stock(picture)
    (ours,) = KWClassificationInferencer(CLASSIFIER, classifier_weights)(picture)
    assert found['pred_label'] == ours['pred_label']
    np.testing.assert_allclose(found['pred_scores'], ours['pred_scores'], rtol=1e-5)


def test_loaders_that_leave_out_what_they_cannot_read(weights, tmp_path):
    cfg = load_config(CONFIG)
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile', ignore_empty=True)
    with pytest.raises(ImageError, match="'.*nowhere.jpg' cannot be read"):
        KWDetInferencer(cfg, str(weights)).read_image(str(tmp_path / 'nowhere.jpg'))


@pytest.fixture
def server(pictures, monkeypatch):
    """Where the pictures are on the network."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    handler = partial(SimpleHTTPRequestHandler, directory=str(pictures))
    handler.log_message = None
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_images_from_the_network(weights, picture, server):
    infer = KWDetInferencer(CONFIG, str(weights))
    found = infer(f'{server}/000000000009.png', return_vis=True)
    same(found['predictions'][0], infer(picture)['predictions'][0])
    assert np.array_equal(
        found['visualization'][0], infer(picture, return_vis=True)['visualization'][0]
    )
    with pytest.raises(ImageError, match='nowhere.png.* cannot be read .*404'):
        infer.read_image(f'{server}/nowhere.png')


def test_a_classifiers_pictures_of_arrays_have_the_colours_of_files(
    classifier_weights, picture, tmp_path
):
    infer = KWClassificationInferencer(CLASSIFIER, classifier_weights)
    for given in (picture, cv2.imread(picture)):
        infer(given, show_dir=str(tmp_path / 'drawn'))
    drawn = [cv2.imread(str(path)) for path in sorted((tmp_path / 'drawn').iterdir())]
    assert len(drawn) == 2 and np.array_equal(*drawn)


def test_steps_are_known_by_their_class(weights, picture):
    """Not by letters of their names."""
    cfg, kinds = load_config(CONFIG), {}
    for base in (LoadImageFromFile, LoadAnnotations):
        kinds[base] = type(f'Own{len(kinds)}', (base,), {})
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[0] = dict(type=kinds[LoadImageFromFile])
    pipeline.insert(1, dict(type=kinds[LoadAnnotations]))
    found = KWDetInferencer(cfg, str(weights))(picture)['predictions'][0]
    same(found, KWDetInferencer(CONFIG, str(weights))(picture)['predictions'][0])
    pipeline[0] = dict(type='LoadImageFromNDArray')
    with pytest.raises(UserError, match='with LoadImageFromFile in it'):
        KWDetInferencer(cfg, str(weights))


def test_images_of_floats(weights, picture):
    cfg = load_config(CONFIG)
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile', to_float32=True)
    infer = KWDetInferencer(cfg, str(weights))
    same(infer(cv2.imread(picture))['predictions'][0], infer(picture)['predictions'][0])


def test_they_take_turns_whatever_scope_is_the_default(weights, classifier_weights, picture):
    first = None
    for package in (mmpretrain, mmdet):
        package.utils.register_all_modules(init_default_scope=True)
        scopes = list(DefaultScope._instance_dict)
        detect = load_inferencer(CONFIG, str(weights))
        classify = load_inferencer(CLASSIFIER, classifier_weights)
        assert type(detect) is KWDetInferencer and type(classify) is KWClassificationInferencer
        found = detect(picture)['predictions'][0], classify(picture)[0]
        first = first or found
        same(found[0], first[0])
        same(found[1], first[1])
        assert list(DefaultScope._instance_dict) == scopes


def test_mmdets_own_options(weights, pictures, tmp_path):
    infer = KWDetInferencer('demo/mask_rcnn_kw_shapes', str(weights), 'cpu', palette='coco')
    done = infer(str(pictures), batch_size=2, out_dir=str(tmp_path / 'out'), no_save_pred=False)
    assert len(done['predictions']) == 3
    infer(blobs(0, (64, 64)), out_dir=str(tmp_path / 'out'), no_save_pred=False)
    names = sorted(path.name for path in (tmp_path / 'out').rglob('*.*'))
    numbers = [f'{i:012d}' for i in (7, 8, 9)]
    assert names == sorted(
        ['0.json', '00000003.jpg', *(f'{i}.{end}' for i in numbers for end in ('json', 'png'))]
    )


def test_a_config_without_a_loader(weights):
    cfg = load_config(CONFIG)
    del cfg.test_dataloader.dataset.pipeline[0]
    with pytest.raises(UserError, match='no test_dataloader.*with LoadImageFromFile in it'):
        KWDetInferencer(cfg, str(weights))


@pytest.mark.parametrize('kind', [None, 'NoSuchModel'])
def test_a_config_without_a_model(weights, kind):
    cfg = load_config(CONFIG)
    cfg.model = kind and dict(type=kind)
    with pytest.raises(UserError, match='must have a model|NoSuchModel'):
        load_inferencer(cfg, str(weights))
