"""What tools/predict.py draws and writes."""

import json

import cv2
import numpy as np
import pytest
import torch
from in_process import run_here
from mmdet.apis import inference_detector, init_detector
from prediction import CONFIG, arguments, blobs
from pycocotools import mask as rle

from kw_mm.errors import UserError
from kw_mm.inference import KWDetInferencer, predict
from kw_mm.run_config import load_config

CLASSES = ('ellipse', 'rectangle', 'triangle', 'star', 'cross')


def predictions(folder):
    return json.loads((folder / 'predictions.json').read_text())


def test_pictures_and_results_of_a_folder(weights, pictures, tmp_path):
    predict(arguments(weights, pictures, out_dir=tmp_path / 'out'))
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        '000000000007.png',
        '000000000008.png',
        '000000000009.png',
        'predictions.json',
    ]
    results = predictions(tmp_path / 'out')
    assert {result['image_id'] for result in results} == {7, 8, 9}
    for result in results:
        picture = cv2.imread(str(pictures / result['file_name']))
        assert int(result['file_name'][:12]) == result['image_id'] and 0 <= result['score'] <= 1
        assert CLASSES[result['category_id'] - 1] == result['category_name']
        x, y, width, height = result['bbox']
        assert min(x, y, width, height) >= 0
        assert x + width <= picture.shape[1] + 1e-3 and y + height <= picture.shape[0] + 1e-3
        assert isinstance(result['segmentation']['counts'], str)
        assert rle.decode(result['segmentation']).shape == picture.shape[:2]
    for path in pictures.glob('*.png'):
        before, after = cv2.imread(str(path)), cv2.imread(str(tmp_path / 'out' / path.name))
        assert before.shape == after.shape and (before != after).mean() > 0.05


def test_results_are_those_of_mmdets_own_inference(weights, pictures, tmp_path):
    predict(arguments(weights, pictures, out_dir=tmp_path / 'out'))
    state_dict = torch.load(weights, weights_only=True)
    torch.save(
        dict(state_dict=state_dict, meta=dict(dataset_meta=dict(classes=CLASSES))),
        tmp_path / 'x.pth',
    )
    model = init_detector(load_config(CONFIG), str(tmp_path / 'x.pth'), device='cpu')
    results = predictions(tmp_path / 'out')
    for path in pictures.glob('*.png'):
        expected = inference_detector(model, str(path)).pred_instances
        found = [result for result in results if result['file_name'] == path.name]
        boxes = torch.tensor([result['bbox'] for result in found])
        boxes[:, 2:] += boxes[:, :2]
        torch.testing.assert_close(boxes, expected.bboxes, rtol=1e-4, atol=1e-3)
        assert [
            CLASSES.index(result['category_name']) for result in found
        ] == expected.labels.tolist()
        assert np.array_equal(
            np.array([rle.decode(result['segmentation']) for result in found]),
            expected.masks.numpy(),
        )


def test_a_threshold_above_all_leaves_the_picture_as_it_is(weights, pictures, tmp_path):
    predict(
        arguments(weights, pictures / '000000000007.png', out_dir=tmp_path / 'out', score_thr=1)
    )
    assert np.array_equal(
        *(cv2.imread(str(folder / '000000000007.png')) for folder in (pictures, tmp_path / 'out'))
    )
    assert predictions(tmp_path / 'out')


def test_pictures_of_one_name_are_kept_apart(weights, pictures, tmp_path):
    other = tmp_path / 'other'
    other.mkdir()
    cv2.imwrite(str(other / '000000000007.png'), blobs(0, (64, 64)))
    predict(
        arguments(
            weights,
            pictures / '000000000007.png',
            other / '000000000007.png',
            out_dir=tmp_path / 'out',
        )
    )
    drawn = [path.name for path in (tmp_path / 'out').glob('*.png')]
    assert len(drawn) == 2 and all(name.endswith('000000000007.png') for name in drawn)
    assert {result['image_id'] for result in predictions(tmp_path / 'out')} == {
        1,
        2,
    }  # their names say nothing


def film(path, frames=3):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5.0, (96, 64))
    for i in range(frames):
        writer.write(blobs(i, (64, 96)))
    writer.release()
    return path


def test_video(weights, tmp_path):
    path = film(tmp_path / 'clip.avi')
    predict(arguments(weights, path, out_dir=tmp_path / 'out'))
    drawn = cv2.VideoCapture(str(tmp_path / 'out/clip.mp4'))
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (3, 5)
    assert drawn.read()[1].shape == (64, 96, 3)
    results = json.loads((tmp_path / 'out/clip.json').read_text())
    assert {result['image_id'] for result in results} == {0, 1, 2} and results[0][
        'file_name'
    ] == 'clip.avi'


def test_videos_that_differ_in_their_ending_are_kept_apart(weights, tmp_path):
    paths = film(tmp_path / 'clip.avi', 2), film(tmp_path / 'clip.mkv', 1)
    predict(arguments(weights, *paths, out_dir=tmp_path / 'out'))
    drawn = sorted((tmp_path / 'out').glob('*.mp4'))
    assert [path.name[-12:] for path in drawn] == ['clip.avi.mp4', 'clip.mkv.mp4']
    assert [cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) for path in drawn] == [2, 1]
    assert sorted(path.name[-8:] for path in (tmp_path / 'out').glob('*.json')) == [
        'avi.json',
        'mkv.json',
    ]


def test_after_a_damaged_video_the_rest_is_done(weights, pictures, tmp_path):
    (tmp_path / 'a.mp4').write_bytes(b'no video')
    with pytest.raises(UserError, match=r"^video '.*a.mp4' cannot be read"):
        predict(arguments(weights, tmp_path / 'a.mp4', pictures, out_dir=tmp_path / 'out'))
    assert len(list((tmp_path / 'out').glob('*.png'))) == 3 and predictions(tmp_path / 'out')


def test_damaged_pictures_are_named_when_all_others_are_done(weights, pictures, tmp_path):
    (pictures / '000000000001.jpg').write_bytes(b'no picture')
    (pictures / '000000000002.jpg').write_bytes(b'')
    with pytest.raises(
        UserError, match=r'^2 of 5 pictures cannot be read: .*000000000001.jpg, .*000000000002.jpg$'
    ):
        predict(arguments(weights, pictures, out_dir=tmp_path / 'out'))
    assert len(list((tmp_path / 'out').glob('*.png'))) == 3
    assert {result['image_id'] for result in predictions(tmp_path / 'out')} == {7, 8, 9}


@pytest.mark.parametrize(
    'case, message',
    [
        ('nowhere', 'does not exist; name a picture, a video or a folder'),
        ('empty', 'holds neither pictures nor videos'),
        ('note.txt', 'is neither a picture nor a video'),
        ('broken.mp4', 'cannot be read; it is damaged'),
        ('over', 'would be written over'),
        ('file', 'cannot be made'),
        ('threshold', '--score-thr 2 is not between 0 and 1'),
        ('classes', 'has 5 classes, but 2 names are known'),
    ],
)
def test_what_cannot_be_done_is_said(case, message, weights, pictures, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'note.txt').write_text('')
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    inputs = pictures if case in ('over', 'file', 'threshold', 'classes') else tmp_path / case
    names = {'test_dataloader.dataset.metainfo.classes': ['a', 'b']} if case == 'classes' else None
    with pytest.raises(UserError, match=message):
        out = dict(over=pictures, file=tmp_path / 'note.txt').get(case, tmp_path / 'out')
        predict(
            arguments(
                weights,
                inputs,
                out_dir=out,
                options=names,
                score_thr=2 if case == 'threshold' else 0.1,
            )
        )


def test_a_device_that_is_not_there_is_said(weights):
    with pytest.raises(UserError, match=r"device 'cuda:77' cannot be used \(.+\); try cpu"):
        KWDetInferencer(load_config(CONFIG), str(weights), 'cuda:77')


def test_the_checkpoints_names_come_before_the_configs(weights, pictures, tmp_path):
    names = ('un', 'deux', 'trois', 'quatre', 'cinq')
    state_dict = torch.load(weights, weights_only=True)
    torch.save(
        dict(state_dict=state_dict, meta=dict(dataset_meta=dict(classes=names))),
        tmp_path / 'named.pth',
    )
    predict(arguments(tmp_path / 'named.pth', pictures, out_dir=tmp_path / 'out'))
    assert {result['category_name'] for result in predictions(tmp_path / 'out')} <= set(names)


def test_the_tools_exit_code_and_one_line(weights, tmp_path, capsys, monkeypatch):
    inputs = CONFIG, weights, tmp_path / 'nowhere'
    done = run_here('predict', *inputs, capsys=capsys, monkeypatch=monkeypatch)
    assert done.code == 2 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
