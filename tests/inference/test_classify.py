"""Classes of real pictures, from real plain weights in warehouses at temperature 1."""

import pytest
import torch
from prediction import CONFIG, arguments
from run_tools import ROOT, SHARED

from kw_mm.errors import UserError
from kw_mm.inference import predict

CLASSIFIER = ROOT / 'configs/demo/kw_mbv2_imagenet_mini.py'


@pytest.fixture(scope='module')
def checkpoint(plain_weights, tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'plain.pth'
    torch.save(plain_weights('mobilenet_v2_imagenet.npz'), path)
    return path


def test_the_most_likely_classes(checkpoint, weights, pictures, tmp_path, capsys):
    folder = SHARED / 'data/imagenet_mini/val'
    if not folder.is_dir():
        pytest.skip(f'needs real ImageNet images in {folder}')
    predict(
        arguments(weights, pictures, config=CONFIG, out_dir=tmp_path)
    )  # mmdet first: scopes must not mix
    names = [
        'n01698640_American_alligator',
        'n02641379_gar',
        'n04487394_trombone',
        'n07747607_orange',
    ]
    capsys.readouterr()
    predict(
        arguments(
            checkpoint,
            *(folder / f'{name}.jpg' for name in names),
            config=CLASSIFIER,
            out_dir=tmp_path,
        )
    )
    lines = capsys.readouterr().out.splitlines()
    said = lines[-6 * len(names) :]
    assert [line for line in said if not line.startswith(' ')] == [
        str(folder / f'{name}.jpg') for name in names
    ]
    first = 0
    for i, name in enumerate(names):
        scores = [float(line.split('%')[0]) for line in said[6 * i + 1 : 6 * i + 6]]
        assert scores == sorted(scores, reverse=True) and sum(scores) <= 100.3
        right = [
            name.split('_', 1)[1].replace('_', ' ').lower() in line.lower()
            for line in said[6 * i + 1 : 6 * i + 6]
        ]
        assert any(right)
        first += right[0]
    assert first >= 3  # the plain network itself errs in one


def test_a_video_is_refused(checkpoint, tmp_path):
    (tmp_path / 'x.mp4').write_bytes(b'')
    with pytest.raises(
        UserError, match='is a video, and the config a classifier, which takes pictures only'
    ):
        predict(arguments(checkpoint, tmp_path / 'x.mp4', config=CLASSIFIER, out_dir=tmp_path))
