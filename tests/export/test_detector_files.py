"""Detectors as ONNX files: their detections are PyTorch's, and using them needs no PyTorch."""

import json
import runpy
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from run_tools import ROOT
from small_detectors import detector

from kw_mm.errors import UserError
from kw_mm.export import DetectionRow, export, pipeline
from kw_mm.export.detection_comparison import drawn_pictures, matches
from kw_mm.export.pasting import paste
from kw_mm.export.pipeline import _resize
from kw_mm.warehouse import kw_layers

MAKES_PROGRAMS = pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_exporting'), reason='needs torch 2.7'
)
CLASSES = ('disc', 'square', 'star', 'ring', 'bar')
WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(['torch', 'torchvision', 'mmcv', 'mmengine', 'mmdet', 'kw_mm']))
sys.path.insert(0, {folder!r})
import cv2, detect, numpy
boxes, scores, labels, masks = detect.detect(*detect.load({file!r}), cv2.imread({picture!r}))
numpy.savez({out!r}, boxes=boxes, scores=scores, labels=labels, masks=masks)
"""


@pytest.fixture
def saved(tmp_path):
    """Function: name of a small detector -> it, its config file and its checkpoint."""
    pytest.importorskip('onnxruntime')

    def save(name, options=None):
        model, cfg = detector(name, options)
        resize = dict(type='Resize', scale=(160, 120), keep_ratio=True)
        cfg.test_dataloader.dataset.pipeline.insert(1, resize)
        cfg.dump(str(tmp_path / 'x.json'))
        content = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=CLASSES)))
        torch.save(content, tmp_path / 'x.pth')
        return model, str(tmp_path / 'x.json'), str(tmp_path / 'x.pth')

    return save


def check_rows(rows, batches, sizes):
    assert [(row.batch, row.size) for row in rows] == [
        (batch, size) for size in sizes for batch in batches
    ]
    for row in rows:
        assert row.detections > 5 * row.batch and row.missing == 0, row
        assert row.box < 1e-3 and row.score < 1e-4 and row.mask_iou > 0.999, row


@MAKES_PROGRAMS
def test_a_file_for_any_batch_and_size_and_its_use_without_torch(saved, tmp_path):
    model, config, checkpoint = saved('mask rcnn')
    path = tmp_path / 'x.onnx'
    done = export(
        config,
        checkpoint,
        'onnx',
        str(path),
        part='detector',
        with_preprocessing=True,
        size=(96, 128),
    )
    assert done.outputs['masks'] == (2, 20, 28, 28)
    check_rows(done.rows, (1, 2, 3), [(96, 128), (133, 198)])

    graph = pytest.importorskip('onnx').load(path)
    assert {(entry.domain, entry.version) for entry in graph.opset_import} == {('', 20)}
    assert not graph.functions
    ((images, axes),) = shapes(graph.graph.input).items()
    assert images == 'images' and axes == ['batch', 'height', 'width', 3]
    assert shapes(graph.graph.output) == dict(
        num=['batch'],
        boxes=['batch', 20, 4],
        scores=['batch', 20],
        labels=['batch', 20],
        masks=['batch', 20, 28, 28],
    )
    about = json.loads(graph.metadata_props[0].value)
    assert about['classes'] == list(CLASSES) and about['opset'] == 20
    assert about['input']['layout'] == 'NHWC, uint8, BGR' and about['input']['batch'] == 'any'
    assert about['preprocessing']['pad_size_divisor'] == 32
    assert about['detections']['score_thr'] == 0.05 and about['detections']['max_per_img'] == 20

    check_use_without_torch(model, about, path, tmp_path)


def shapes(values):
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in values
    }


@pytest.mark.parametrize(
    'step, resize, size',
    [
        (
            dict(scale=(160, 120), keep_ratio=True),
            dict(size=[160, 120], keep_ratio=True),
            (90, 160),
        ),
        (dict(scale=(128, 96)), dict(size=[128, 96], keep_ratio=False), (128, 96)),
        (dict(scale=64), dict(size=[64, 64], keep_ratio=False), (64, 64)),
        (dict(scale_factor=2), None, (225, 400)),
    ],
)
def test_a_picture_is_resized_as_the_model_was_tested(step, resize, size):
    pytest.importorskip('onnxruntime')
    size_for = runpy.run_path(str(ROOT / 'examples/deploy/detect.py'))['size_for']
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', **step)]
    cfg = Config(dict(test_dataloader=dict(dataset=dict(type='CocoDataset', pipeline=pipeline))))
    assert _resize(cfg) == resize
    about = dict(input=dict(size='any'), **(dict(resize=resize) if resize else {}))
    assert size_for(about, 400, 225) == size
    assert size_for(dict(about, input=dict(size=[32, 64])), 400, 225) == (64, 32)


def check_use_without_torch(model, about, path, tmp_path):
    """examples/deploy/detect.py, on a picture that it resizes."""
    picture = cv2.resize(drawn_pictures(1)[0], (251, 190))
    cv2.imwrite(str(tmp_path / 'x.png'), picture)
    names = dict(
        folder=str(ROOT / 'examples/deploy'),
        file=str(path),
        picture=str(tmp_path / 'x.png'),
        out=str(tmp_path / 'x.npz'),
    )
    subprocess.run([sys.executable, '-c', WITHOUT_TORCH.format(**names)], check=True, timeout=600)
    found = dict(np.load(tmp_path / 'x.npz'))
    assert about['resize'] == dict(size=[160, 120], keep_ratio=True)
    expected = predicted_in(model, picture, (int(251 * 120 / 190 + 0.5), 120))
    pairs = matches(expected, found)
    assert len(pairs) == len(found['scores']) == len(expected['scores']) > 5
    for i, j in pairs:
        np.testing.assert_allclose(found['boxes'][j], expected['boxes'][i], atol=1e-3)
        np.testing.assert_allclose(found['scores'][j], expected['scores'][i], atol=1e-4)
        assert found['masks'][j].shape == (190, 251)
        assert (found['masks'][j] ^ expected['masks'][i]).sum() <= 2  # noise at the threshold
    assert found['masks'].any()


@torch.no_grad()
def predicted_in(model, picture, size):
    """mmdet's detections in a picture, made on a resized one."""
    (width, height), shape = size, picture.shape[:2]
    sample = dict(
        img_shape=(height, width),
        ori_shape=shape,
        scale_factor=(width / shape[1], height / shape[0]),
    )
    image = torch.from_numpy(cv2.resize(picture, size)).permute(2, 0, 1)
    batch = dict(inputs=[image], data_samples=[DetDataSample(metainfo=sample)])
    (found,) = model.test_step(batch)
    names = dict(boxes='bboxes', scores='scores', labels='labels', masks='masks')
    return {name: getattr(found.pred_instances, key).numpy() for name, key in names.items()}


@MAKES_PROGRAMS
def test_a_file_for_one_batch_and_size(saved, tmp_path):
    _, config, checkpoint = saved('retinanet')
    path = str(tmp_path / 'x.onnx')
    options = dict(part='detector', static_batch=1, static_size=(96, 128))
    done = export(config, checkpoint, 'onnx', path, **options)
    check_rows(done.rows, (1,), [(96, 128)])
    graph = pytest.importorskip('onnx').load(path).graph
    assert shapes(graph.input) == dict(images=[1, 3, 96, 128])
    assert shapes(graph.output)['boxes'] == [1, 100, 4]


@MAKES_PROGRAMS
@pytest.mark.slow
@pytest.mark.parametrize('name', ['mask rcnn, one level', 'faster rcnn', 'retinanet'])
def test_other_detectors(name, saved, tmp_path):
    _, config, checkpoint = saved(name)
    options = dict(part='detector', size=(96, 128))
    done = export(config, checkpoint, 'onnx', str(tmp_path / 'x.onnx'), **options)
    check_rows(done.rows, (1, 2, 3), [(96, 128), (133, 198)])


@MAKES_PROGRAMS
@pytest.mark.slow
def test_kernels_of_a_fixed_batch_are_convolved_in_groups(saved, tmp_path):
    backbone = {'type': 'KWResNet', 'budget': 1, 'temperature': 0}
    options = {f'model.backbone.{key}': value for key, value in backbone.items()}
    model, config, checkpoint = saved('mask rcnn', options)
    path = str(tmp_path / 'x.onnx')
    asked = dict(part='detector', static_batch=2, static_size=(96, 128))
    done = export(config, checkpoint, 'onnx', path, **asked)
    check_rows(done.rows, (2,), [(96, 128)])
    assert done.static_layers == 0
    nodes = pytest.importorskip('onnx').load(path).graph.node
    groups = [a.i for node in nodes for a in node.attribute if a.name == 'group']
    assert groups.count(2) == len(kw_layers(model))


def test_a_detector_that_deviates_is_kept_under_another_name(saved, tmp_path, monkeypatch):
    pytest.importorskip('onnx')
    _, config, checkpoint = saved('retinanet')
    row = DetectionRow(1, (96, 128), 9, 0, 0.5, 1e-6, 1.0)
    monkeypatch.setattr(pipeline, 'check_format', lambda to, opset: None)
    monkeypatch.setattr(pipeline, 'runner', lambda path, to: None)
    monkeypatch.setattr(pipeline, 'write', lambda part, images, path, to, **_: open(path, 'w'))
    monkeypatch.setattr(pipeline, 'compare_detections', lambda *args, **_: [row])
    path = tmp_path / 'y.onnx'
    with pytest.raises(UserError, match=r'up to 5.0e-01 pixels .*y.deviating.onnx.*--tolerance'):
        export(config, checkpoint, 'onnx', str(path), part='detector')
    assert not path.exists() and (tmp_path / 'y.deviating.onnx').exists()
    export(config, checkpoint, 'onnx', str(path), part='detector', tolerance=0.1)
    assert path.exists()


def test_masks_are_pasted_as_mmdet_does():
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    random = np.random.default_rng(0)
    corners = random.uniform(-3, 60, size=(40, 2, 2))
    boxes = np.sort(corners, axis=1).reshape(-1, 4).clip(0).astype(np.float32)
    masks = random.random((40, 28, 28), dtype=np.float32)
    found = paste(masks, boxes, (50, 64))
    for mask, box, image in zip(masks, boxes, found):
        part, region = _do_paste_mask(
            torch.from_numpy(mask)[None, None], torch.from_numpy(box)[None], 50, 64
        )
        expected = np.zeros((50, 64), bool)
        expected[region] = part[0].numpy() >= 0.5
        assert (expected ^ image).sum() <= 1
    assert found.any(axis=(1, 2)).sum() > 30
