"""tools/visualize_attention.py on a small run, its page in a browser, and tools/plot_run.py."""

import html
import json
import re
import shutil
import subprocess

import cv2
import pytest
from run_tools import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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
    assert [row[0] for row in cells] == [*WAREHOUSES, 'mean']
    assert all(row[3] == '0.25' for row in cells[:-1])  # 1 - 9 / 12, of the last checkpoint
    shares = [float(row[5]) for row in cells]
    assert all(abs(share - 0.25) < 0.1 for share in shares)  # so much do start cells take by it
    assert abs(shares[-1] - sum(shares[:-1]) / len(WAREHOUSES)) < 1e-3
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
