"""The installed package, used from an empty folder beside stock mmdet."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from imports import imports
from modelindex.load_model_index import load
from run_tools import ROOT
from shapes import write_shapes

import kw_mm
from kw_mm.__main__ import main
from kw_mm.errors import UserError

SOURCES = (
    'kw_mm',
    'configs',
    'tools',
    'examples',
    'pyproject.toml',
    'setup.py',
    'MANIFEST.in',
    'model-index.yml',
    'README.md',
    'LICENSE',
)
# names under which packages are imported, where they are installed under another
DISTRIBUTIONS = dict(
    cv2='opencv-python',
    PIL='pillow',
    yaml='pyyaml',
    modelindex='model-index',
    mmaction='mmaction2',
    mmseg='mmsegmentation',
)


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """Where ``pip install .`` has put the package: a wheel, built without network, unpacked."""
    source, target = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('installed')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__', '.mim')
            )
        else:
            shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'pip',
            'install',
            '-q',
            '--no-deps',
            '--no-build-isolation',
            '--no-index',
            '--target',
            str(target),
            str(source),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return target


@pytest.fixture
def python(installed, tmp_path):
    """Function: run Python with the installed package, from an empty folder; its output."""
    env = {
        **os.environ,
        'PYTHONPATH': str(installed),
        'PYTHONWARNINGS': 'ignore',
        'OMP_NUM_THREADS': '1',
    }

    def run(*args):
        done = subprocess.run(
            [sys.executable, *args],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    return run


def relative_files(folder, pattern):
    return {path.relative_to(folder) for path in folder.rglob(pattern)}


def test_everything_travels(installed):
    package = installed / 'kw_mm'
    for pattern in ('*.py', 'metafile.yml'):
        assert relative_files(package / '.mim/configs', pattern) == relative_files(
            ROOT / 'configs', pattern
        )
    for folder in ('tools', 'examples'):
        assert relative_files(package / '.mim' / folder, '*.py') == relative_files(
            ROOT / folder, '*.py'
        )
    assert (package / 'checkpoints/published_models.csv').is_file()
    assert (package / 'py.typed').is_file()
    assert len(load(str(package / '.mim/model-index.yml')).models) > 80
    assert (installed / 'bin/kw_mm').is_file()


def test_the_metadata(installed):
    (info,) = installed.glob('kw_mm-*.dist-info')
    said = (info / 'METADATA').read_text()
    assert 'License-Expression: Apache-2.0' in said and 'Author: kw_mm contributors' in said
    assert (info / 'licenses/LICENSE').read_text() == (ROOT / 'LICENSE').read_text()
    assert f'Version: {kw_mm.__version__}' in said
    assert yaml.safe_load((ROOT / 'CITATION.cff').read_text())['version'] == kw_mm.__version__


def declared(table):
    """Names of the packages in a table of pyproject.toml, as pip compares them."""
    tomllib = pytest.importorskip('tomllib')  # Python 3.11 or newer
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    listed = project[table]
    if isinstance(listed, dict):
        listed = [line for extra in listed.values() for line in extra]
    return {re.match(r'[\w.-]+', line)[0].lower().replace('_', '-') for line in listed}


def imported(*folders):
    """Packages that the Python files of these folders import, apart from the project's own."""
    own = {
        path.stem for folder in ('tests/helpers', 'examples') for path in (ROOT / folder).iterdir()
    }
    names = {item.top for item in imports(*folders)} - sys.stdlib_module_names - own - {'kw_mm'}
    return {DISTRIBUTIONS.get(name, name.lower().replace('_', '-')) for name in names}


def test_every_package_that_is_imported_is_declared():
    needed, extras = declared('dependencies'), declared('optional-dependencies')
    used = imported('kw_mm', 'tools') - {'pavi'}  # a package of mmengine's, not on PyPI
    assert {'torch', 'mmdet', 'opencv-python', 'matplotlib', 'onnx'} <= used
    assert used <= needed | extras and needed - {'setuptools'} <= used
    assert imported('tests', 'examples') - {'examples'} <= needed | extras


def test_one_python_range_everywhere():
    range_ = re.search(
        r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / 'pyproject.toml').read_text()
    )
    first, last = int(range_[1]), int(range_[2]) - 1
    said = f'3.{first} to 3.{last}'
    for name in ('README.md', 'CONTRIBUTING.md', 'tools/setup.sh'):
        text = (ROOT / name).read_text()
        assert set(re.findall(r'\b3\.\d+ to 3\.\d+\b', text)) == {said}, name
    assert (
        f'(3, {first}) <= sys.version_info < (3, {last + 1})'
        in (ROOT / 'tools/setup.sh').read_text()
    )


def test_a_config_of_ones_own_beside_stock_mmdet(python, installed, tmp_path):
    (tmp_path / 'mine.py').write_text("""
_base_ = __import__('kw_mm').config('mask_rcnn_kw_r50_1x_coco')
model = dict(backbone=dict(budget=2, init_cfg=None))
""")
    said = python(
        '-c',
        """
from mmengine.config import Config
from mmdet.apis import init_detector
model = init_detector(Config.fromfile('mine.py'), device='cpu')
import kw_mm
print(kw_mm.__file__)
cells = model.backbone.warehouses['stage4'].num_cells
print(type(model).__name__, type(model.backbone).__name__, cells)
print(kw_mm.config('imagenet/kw_r50_300e_in1k'))
""",
    ).splitlines()
    assert Path(said[-3]) == installed / 'kw_mm/__init__.py'
    assert said[-2] == 'MaskRCNN KWResNet 94'
    assert Path(said[-1]) == installed / 'kw_mm/.mim/configs/imagenet/kw_r50_300e_in1k.py'


def test_training_from_an_empty_folder(python, tmp_path):
    """Data paths of configs begin where the command is run."""
    write_shapes(tmp_path / 'data/shapes', num_train=2, num_val=1, size=64)
    python(
        '-m',
        'kw_mm',
        'train',
        'mask_rcnn_kw_shapes',
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=2',
        'train_cfg.val_interval=1',
    )
    run = tmp_path / 'work_dirs/mask_rcnn_kw_shapes'
    assert (run / 'epoch_1.pth').is_file() and 'coco/segm_mAP' in next(
        run.glob('*/vis_data/scalars.json')
    ).read_text()


@pytest.mark.parametrize(
    'arguments, code, said',
    [
        ('configs', 0, 'imagenet/kw_r50_300e_in1k\n'),
        ('--version', 0, f'kw_mm {kw_mm.__version__}\n'),
        ('', 0, 'predict'),
        ('nothing', 2, 'error: kw_mm has no tool'),
        ('predict', 2, 'predict.py: error: the following arguments are required: config'),
        ('train mask_rcnn_kw_r5_1x_coco', 2, 'there are for example mask_rcnn_kw_r50_1x_coco'),
    ],
)
def test_the_command_line_names_what_there_is(arguments, code, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['kw_mm', *arguments.split()])
    if code:
        with pytest.raises(SystemExit) as stop:
            main()
        assert str(stop.value.code).startswith(str(code))
    else:
        main()
    assert said in ''.join(capsys.readouterr())


@pytest.mark.parametrize(
    'name',
    [
        'mask_rcnn_kw_r50_1x_coco',
        'mask_rcnn_kw_r50_1x_coco.py',
        'imagenet/kw_r50_300e_in1k',
        'kw_r50_300e_in1k',
        'demo/mask_rcnn_kw_shapes.py',
    ],
)
def test_configs_of_a_checkout(name):
    path = Path(kw_mm.config(name))
    assert path.is_file() and path.stem == Path(name).stem and path.is_relative_to(ROOT / 'configs')


def test_names_without_folder_are_unique():
    names = kw_mm.config_names()
    assert len({name.rpartition('/')[2] for name in names}) == len(names) > 80
    assert not [name for name in names if '_base_' in name]


@pytest.mark.parametrize(
    'name, meant',
    [
        ('mask_rcnn_kw_r50_2x_coco', 'mask_rcnn_kw_r50_1x_coco'),
        ('imagenet/kw_r50_300_in1k', 'imagenet/kw_r50_300e_in1k'),
    ],
)
def test_an_unknown_config_is_answered_with_those_called_alike(name, meant):
    with pytest.raises(UserError, match=f"no config '{name}'; there are for example .*{meant}"):
        kw_mm.config(name)
