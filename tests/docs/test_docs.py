"""What README and docs name exists."""

import re

import pytest
from run_tools import ROOT

from kw_mm.checkpoints import published_models

PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
# that need nothing of this project's but the package
OF_OTHER_PROJECTS = ('siblings.md', 'timm.md', 'torchvision.md', 'ultralytics.md')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_and_links_exist(page):
    text = page.read_text()
    named = set(re.findall(r'\b((?:configs|tools|tests|kw_mm)/[\w./-]+\.(?:py|sh|csv))\b', text))
    assert len(named) > 3 or page.name in OF_OTHER_PROJECTS
    missing = [path for path in named if not (ROOT / path).exists()]
    links = [link for link in re.findall(r'\]\(([^)#]+)\)', text) if '://' not in link]
    assert not missing + [link for link in links if not (page.parent / link).exists()]
    assert not re.findall(r'@[A-Z0-9]+@', text)


def test_the_table_quotes_the_papers_numbers():
    rows = re.findall(
        r'`mask_rcnn_(\w+)_1x_coco.py`[^|]*\| ([\d.]+) \| ([\d.]+) \| \*paper\*',
        PAGES[0].read_text(),
    )
    names = dict(
        r50='resnet50',
        mbv2='mobilenetv2',
        kw_r50='resnet50-kw1x',
        kw4x_r50='resnet50-kw4x',
        kw_mbv2='mobilenetv2-kw1x',
        kw4x_mbv2='mobilenetv2-kw4x',
    )
    assert len(rows) == 6
    for name, box, mask in rows:
        assert published_models()[f'mask-rcnn-{names[name]}-coco'].scores == (
            float(box),
            float(mask),
        )


def test_every_checkpoint_that_a_config_names_is_in_the_table():
    found = {
        name
        for path in (ROOT / 'configs').rglob('*.py')
        for name in re.findall(r'kw://([\w-]+)', path.read_text())
    }
    assert len(found) == 12 and found <= set(published_models())
