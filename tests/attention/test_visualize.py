"""tools/visualize_attention.py on a small run, its page in a browser, and tools/plot_run.py."""

import html
import json
import re
import shutil
import subprocess
from argparse import Namespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.registry import TRANSFORMS
from run_tools import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kw_mm.attention.recording import record_attention
from kw_mm.attention.samples import file_samples
from kw_mm.attention.visualize import visualize_attention
from kw_mm.errors import UserError
from kw_mm.models.building import build_model
from kw_mm.run_config import load_config
from kw_mm.warehouse import kw_layers

WAREHOUSES = ('stage1', 'stage2', 'stage3')
KINDS = ('mean', 'distribution', 'usage', 'run', 'difference')
BROWSER = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))),
    None,
)
COUNT_IMAGES = """<script>addEventListener('load', () => {
  const sizes = [...document.images].map(
    image => [image.complete, image.naturalWidth, image.naturalHeight]);
  document.body.dataset.sizes = JSON.stringify(sizes);
});</script>"""


@pytest.fixture(scope='module')
def run(tool, small_config, shapes, tmp_path_factory):
    """Three epochs with TensorBoard, by the one line of docs/visualization.md, and the hook."""
    folder = tmp_path_factory.mktemp('attention')
    line = re.search(
        r'^visualizer = .*Tensorboard.*$',
        (ROOT / 'docs/visualization.md').read_text(),
        re.MULTILINE,
    ).group()
    config = folder / 'config.py'
    config.write_text(f"""
_base_ = {str(small_config)!r}
data_root = 'data/shapes/'
{line}
custom_hooks = [
    dict(type='AttentionTemperatureHook', duration=4), dict(type='AttentionVisualizationHook')]
randomness = dict(seed=0)
""")
    tool('train', config, '--work-dir', folder / 'run', '--cfg-options', f'data_root={shapes}')
    return config, folder / 'run'


@pytest.fixture(scope='module')
def page(tool, run, shapes, tmp_path_factory):
    config, work_dir = run
    out = tmp_path_factory.mktemp('pictures')
    done = tool(
        'visualize_attention',
        config,
        work_dir,
        '--number',
        3,
        '--out',
        out,
        '--cfg-options',
        f'data_root={shapes}',
    )
    assert done.stdout.splitlines()[-1] == str(out / 'index.html')
    return out / 'index.html'


def test_all_pictures_are_drawn(page):
    expected = {
        'run.png',
        'two_images.png',
        *(f'{name}_{kind}.png' for name in WAREHOUSES for kind in KINDS),
    }
    found = {file.name: cv2.imread(str(file)) for file in page.parent.glob('*.png')}
    assert set(found) == expected
    for name, picture in found.items():
        assert min(picture.shape[:2]) > 100 and picture.std() > 10, name
        assert (picture[0] == 255).mean() > 0.9, name  # nothing is cut off at the top


def test_the_page_tells_how_warehouses_are_used(page):
    text = page.read_text()
    rows = re.findall(r'<tr>(<td>.*?)</tr>', text)
    cells = [re.findall(r'<td>(.*?)</td>', row) for row in rows]
    assert [row[0] for row in cells] == list(WAREHOUSES)
    assert all(row[3] == '0.25' for row in cells)  # 1 - 9 / 12, of the last checkpoint
    assert all(
        abs(float(row[5]) - 0.25) < 0.1 for row in cells
    )  # so much do start cells take by it
    assert all(name in text for name in ('epoch_3', '000000000001.jpg', '000000000003.jpg'))


def dump(page, folder):
    done = subprocess.run(
        [
            BROWSER,
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            '--disable-quic',
            '--no-first-run',
            '--disable-background-networking',
            '--disable-component-update',
            '--disable-sync',
            f'--user-data-dir={folder}',
            '--virtual-time-budget=10000',
            '--dump-dom',
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'data-sizes="(.*?)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found.group(1)))


@pytest.mark.skipif(not BROWSER, reason='needs chromium or chrome to open the page in')
def test_a_browser_shows_every_picture(page, tmp_path):
    """The page, far from its PNG files; and the check itself sees a picture that is broken."""
    text = page.read_text()
    copy = tmp_path / 'moved.html'
    copy.write_text(text.replace('</body>', COUNT_IMAGES + '</body>'))
    sizes = dump(copy, tmp_path / 'profile')
    expected = {tuple(cv2.imread(str(file)).shape[1::-1]) for file in page.parent.glob('*.png')}
    assert len(sizes) == 2 + len(WAREHOUSES) * len(KINDS)
    assert {(width, height) for complete, width, height in sizes} == expected and all(
        size[0] for size in sizes
    )
    broken = tmp_path / 'broken.html'
    broken.write_text('<body><img src="data:image/png;base64,AAAA">' + COUNT_IMAGES + '</body>')
    assert dump(broken, tmp_path / 'profile') == [[True, 0, 0]]


def test_the_run_is_in_tensorboard_and_in_one_figure(run, tool, tmp_path):
    _, work_dir = run
    events = EventAccumulator(
        str(next(work_dir.glob('*/vis_data'))), size_guidance=dict(images=0)
    ).Reload()
    assert [event.step for event in events.Scalars('loss')] == list(range(1, 10))
    scalars = {'temperature', 'lr', 'coco/bbox_mAP', 'coco/segm_mAP', 'attention_entropy/stage1'}
    assert scalars <= set(events.Tags()['scalars'])
    assert [event.step for event in events.Images('attention_stage3')] == [3, 6, 9]
    tool('plot_run', work_dir, '--out', tmp_path / 'run.png')
    picture = cv2.imread(str(tmp_path / 'run.png'))
    assert picture.shape[1] > picture.shape[0] > 500 and picture.std() > 10


CLASSIFIER = """
custom_imports = dict(imports=['kw_mm'], allow_failed_imports=False)
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier', data_preprocessor=dict(mean=[128] * 3, std=[64] * 3, to_rgb=True),
    backbone={backbone}, neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, {head}))
test_dataloader = dict(dataset=dict(type='CustomDataset', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=64),
    dict(type='CenterCrop', crop_size=64), dict(type='PackInputs')]))
"""


def classifier(tmp_path, backbone, channels=512):
    path = tmp_path / 'config.py'
    path.write_text(CLASSIFIER.format(backbone=backbone, head=f'in_channels={channels}'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(backbone)
        head = MODELS.build(dict(type='LinearClsHead', num_classes=10, in_channels=channels))
    weights = {
        **{f'backbone.{key}': value for key, value in backbone.state_dict().items()},
        **{f'head.{key}': value for key, value in head.state_dict().items()},
    }
    torch.save(dict(state_dict=weights), tmp_path / 'x.pth')
    for i in range(2):
        cv2.imwrite(
            str(tmp_path / f'image{i}.png'),
            np.random.default_rng(i).integers(0, 255, (80, 70, 3), np.uint8),
        )
    return path


def arguments(tmp_path, *images, **options):
    defaults = dict(
        config=str(tmp_path / 'config.py'),
        checkpoint=str(tmp_path / 'x.pth'),
        images=list(map(str, images)),
        number=8,
        checkpoints=[],
        out=str(tmp_path / 'out'),
        cfg_options=None,
    )
    return Namespace(**{**defaults, **options})


@pytest.mark.parametrize(
    'backbone, channels, warehouses',
    [
        (dict(type='KWResNet', depth=18, budget=0.5, base_channels=16, stem_channels=16), 128, 4),
        (dict(type='KWMobileNetV2', widen_factor=0.25, budget=4), 1280, 19),
        (
            dict(
                type='KWConvNeXt',
                arch=dict(depths=[1] * 4, channels=[16, 16, 32, 32]),
                gap_before_final_norm=False,
            ),
            32,
            12,
        ),
    ],
)
def test_classifiers(tmp_path, backbone, channels, warehouses):
    cfg = load_config(str(classifier(tmp_path, backbone, channels)))
    model = build_model(cfg)
    found = record_attention(
        model, file_samples(cfg, [str(tmp_path / 'image0.png'), str(tmp_path / 'image1.png')])
    )
    assert len(found) == warehouses
    assert sum(len(warehouse.layers) for warehouse in found) == len(kw_layers(model))
    for warehouse in found:
        assert len(warehouse.alpha) == 2 and torch.isfinite(warehouse.weights).all()
    assert sum(found[0].differences(0, 1).values()) > 0


def test_images_are_normalised_as_the_runner_does_it(tmp_path):
    """mmpretrain's configs have the preprocessor beside the model, which mmengine's runner gets."""
    path = classifier(
        tmp_path,
        dict(type='KWResNet', depth=18, budget=0.5, base_channels=16, stem_channels=16),
        128,
    )
    inside = load_config(str(path))
    beside = load_config(str(path))
    beside.data_preprocessor = beside.model.pop('data_preprocessor')
    (sample,) = file_samples(inside, [str(tmp_path / 'image0.png')])
    normalised = [
        build_model(cfg).data_preprocessor(pseudo_collate([sample.data]))['inputs']
        for cfg in (inside, beside)
    ]
    assert torch.equal(*normalised) and normalised[0].abs().max() <= 2
    assert 'data_preprocessor' not in beside.model


def test_a_pipeline_of_classes(tmp_path):
    """As in mmengine's pure Python configs."""
    cfg = load_config(str(classifier(tmp_path, dict(type='KWResNet', depth=18), 512)))
    by_name = file_samples(cfg, [str(tmp_path / 'image0.png')])
    for step in cfg.test_dataloader.dataset.pipeline:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            step.type = TRANSFORMS.get(step.type)
    by_class = file_samples(cfg, [str(tmp_path / 'image0.png')])
    assert np.array_equal(by_name[0].image, by_class[0].image)


def test_what_cannot_be_drawn_is_said_in_one_sentence(tmp_path):
    classifier(tmp_path, dict(type='StaticResNet', depth=18), 512)
    with pytest.raises(
        UserError, match='has no warehouses to look into; give one with a KW backbone'
    ):
        visualize_attention(arguments(tmp_path, tmp_path / 'image0.png'))
    classifier(tmp_path, dict(type='KWResNet', depth=18, base_channels=16, stem_channels=16), 128)
    (tmp_path / 'text.png').write_text('no image')
    (tmp_path / 'empty').mkdir()
    for options, message in [
        (dict(images=[str(tmp_path / 'text.png')]), "text.png' does not pass the test pipeline"),
        (dict(images=[str(tmp_path / 'nowhere.png')]), "nowhere.png' does not exist"),
        (dict(images=[str(tmp_path / 'empty')]), "no image in '.*empty'"),
        (dict(), 'has no val_dataloader; name image files instead'),
        (dict(number=0), '--number 0'),
        (dict(checkpoint=str(tmp_path / 'empty')), 'no checkpoint epoch_'),
        (dict(checkpoints=['nowhere.pth']), "checkpoint 'nowhere.pth' does not exist"),
    ]:
        with pytest.raises(UserError, match=message):
            visualize_attention(arguments(tmp_path, **options))


def test_earlier_checkpoints_come_first(tmp_path):
    backbone = dict(
        type='KWResNet',
        depth=18,
        base_channels=16,
        stem_channels=16,
        budget=0.5,
        sharing_range='two_stages',
    )
    classifier(tmp_path, backbone, 128)
    page = visualize_attention(arguments(tmp_path, tmp_path / 'image1.png'))
    assert page.read_text().count('<img ') == 2 * 3  # no run and nothing to compare
    weights = torch.load(tmp_path / 'x.pth')
    weights['state_dict']['backbone.warehouses.temperature'].fill_(0.5)
    torch.save(weights, tmp_path / 'early.pth')
    folder = arguments(
        tmp_path, tmp_path, checkpoints=[str(tmp_path / 'early.pth')]
    )  # both images of a folder
    text = visualize_attention(folder).read_text()
    assert 'Checkpoint x.' in text and '<td>0</td>' in text and text.count('<img ') == 2 + 2 * 5
