import warnings

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from kw_mm import run_config
from kw_mm.command_line import check_checkpoint
from kw_mm.errors import UserError
from kw_mm.run_config import datasets_of, load_config, walk_transforms
from kw_mm.training.data_checks import check_datasets

TEXT = """
data_root = 'data/coco/'
train_dataloader = dict(dataset=dict(type='RepeatDataset', dataset=dict(
    data_root=data_root, ann_file='annotations/a.json', data_prefix=dict(img='train/'))))
val_dataloader = dict(dataset=dict(
    data_root=data_root, ann_file='annotations/b.json', data_prefix=dict(img='val/')))
val_evaluator = [dict(type='CocoMetric', ann_file=data_root + 'annotations/b.json')]
other = 'data/cocoa'
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(TEXT)
    return str(path)


@pytest.mark.parametrize('root', ['/datasets/coco', '/datasets/coco/'])
def test_data_root_reaches_every_dataset_and_evaluator(config, root):
    cfg = load_config(config, dict(data_root=root))
    assert cfg.train_dataloader.dataset.dataset.data_root == '/datasets/coco/'
    assert cfg.val_dataloader.dataset.data_root == '/datasets/coco/'
    assert cfg.val_evaluator[0].ann_file == '/datasets/coco/annotations/b.json'
    assert cfg.other == 'data/cocoa'
    assert (
        Config.fromstring(cfg.pretty_text, '.py').val_evaluator[0].ann_file
        == cfg.val_evaluator[0].ann_file
    )


def test_explicit_options_win(config):
    cfg = load_config(config, {'data_root': '/a/', 'val_dataloader.dataset.data_root': '/b/'})
    assert cfg.val_dataloader.dataset.data_root == '/b/'
    assert cfg.train_dataloader.dataset.dataset.data_root == '/a/'


def test_data_root_in_a_config_without_one_is_refused(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('x = 1')
    with pytest.raises(UserError, match='defines no data_root'):
        load_config(str(path), dict(data_root='/a/'))


INHERITING = """
_base_ = './config.py'
data_root = '/own/'
val_dataloader = dict(dataset=dict(data_root='data/coco/other/'))
"""


def test_a_data_root_reaches_what_is_inherited(config, tmp_path):
    own = tmp_path / 'own.py'
    own.write_text(INHERITING)
    third = tmp_path / 'third.py'
    third.write_text("_base_ = ['./own.py']\nx = 1")
    for path in (own, third):
        cfg = load_config(str(path))
        assert cfg.train_dataloader.dataset.dataset.data_root == '/own/' == cfg.data_root
        assert cfg.val_dataloader.dataset.data_root == 'data/coco/other/'  # written out
        assert cfg.val_evaluator[0].ann_file == '/own/annotations/b.json'
        assert cfg.other == 'data/cocoa'
        moved = load_config(str(path), dict(data_root='/given/'))
        assert moved.train_dataloader.dataset.dataset.data_root == '/given/'
        assert moved.val_evaluator[0].ann_file == '/given/annotations/b.json'


def test_configs_that_come_along_have_their_own_data_root():
    cfg = load_config('demo/kw_r50_imagenet_mini')
    roots = {cfg[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')}
    assert roots == {'data/imagenet_mini'}


def test_a_data_root_that_no_dataset_has_is_refused(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(TEXT.replace('data_root=data_root', "data_root='elsewhere/'"))
    with pytest.raises(UserError, match="no dataset of .* is below its data_root 'data/coco/'"):
        load_config(str(path), dict(data_root='/a/'))


PURE = """
from mmdet.datasets import CocoDataset

data_root = 'data/coco/'
val_dataloader = dict(dataset=dict(type=CocoDataset, data_root=data_root, pipeline=[
    dict(type=CocoDataset, nested=[dict(type=CocoDataset)])]))
"""


def test_classes_of_a_pure_python_config_stay_as_they_are_written(tmp_path):
    path = tmp_path / 'pure.py'
    path.write_text(PURE)
    cfg = load_config(str(path), {'data_root': '/a/', 'val_dataloader.dataset.x': 1})
    assert cfg.val_dataloader.dataset.data_root == '/a/'
    assert cfg.val_dataloader.dataset.type is CocoDataset
    assert 'class' not in cfg.pretty_text
    cfg.dump(tmp_path / 'dumped.py')
    dumped = Config.fromfile(tmp_path / 'dumped.py')
    assert 'CocoDataset' in str(dumped.val_dataloader.dataset.type)


def test_missing_and_broken_configs_are_named(tmp_path):
    with pytest.raises(UserError, match='nowhere.py'):
        load_config('nowhere.py')
    broken = tmp_path / 'broken.py'
    broken.write_text('model = dict(')
    with pytest.raises(UserError, match='broken.py'):
        load_config(str(broken))


@pytest.mark.parametrize(
    'option, warned', [('dataroot', True), ('find_unused_parameters', False), ('load_from', False)]
)
def test_a_misspelt_setting_is_warned_of(config, option, warned):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        load_config(config, {f'{option}.x': 1})
    found = [str(w.message) for w in caught if 'meant' in str(w.message)]
    assert len(found) == warned and all(
        repr(option) in message and "'data_root'" in message for message in found
    )


def test_datasets_in_wrappers_are_found_with_their_keys():
    parts = [dict(type='CocoDataset', ann_file='a.json'), dict(type='XMLDataset', ann_file='b')]
    concatenated = dict(type='ConcatDataset', datasets=parts)
    wrapped = dict(type='RepeatDataset', times=2, dataset=concatenated)
    cfg = Config(dict(test_dataloader=dict(dataset=wrapped), val_dataloader=None))
    key = 'test_dataloader.dataset'
    assert [(where, dataset.type) for where, dataset in datasets_of(cfg, 'test')] == [
        (key, 'RepeatDataset'),
        (f'{key}.dataset', 'ConcatDataset'),
        (f'{key}.dataset.datasets[0]', 'CocoDataset'),
        (f'{key}.dataset.datasets[1]', 'XMLDataset'),
    ]
    assert run_config.tested_dataset(cfg) == parts[0]
    assert run_config.tested_dataset(Config(dict())) == {}
    assert not list(datasets_of(cfg, 'val')) and not list(datasets_of(cfg, 'train'))


def test_transforms_in_wrappers_are_found():
    inner = [[dict(type='A')], [dict(type='B'), dict(type='C', policies=[dict(type='D')])]]
    branches = dict(type='MultiBranch', branch_field=['x'], x=dict(type='E'))
    pipeline = [dict(type='RandomChoice', transforms=inner), branches]
    kinds = [step['type'] for step in walk_transforms(pipeline)]
    assert kinds == ['RandomChoice', 'A', 'B', 'C', 'D', 'MultiBranch', 'E']
    assert not list(walk_transforms(None))


def test_missing_data_is_named_with_its_setting(config, tmp_path):
    cfg = load_config(config, dict(data_root=str(tmp_path)))
    with pytest.raises(
        UserError, match=r'a.json.*\(train_dataloader.dataset.dataset.ann_file\).*data_root=PATH'
    ):
        check_datasets(cfg, 'train')
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations/a.json').write_text('{}')
    with pytest.raises(UserError, match=r'train/.*data_prefix img'):
        check_datasets(cfg, 'train', 'val')
    (tmp_path / 'train').mkdir()
    check_datasets(cfg, 'train', 'test')  # the config has no test dataset


def test_the_advice_on_missing_data_is_an_option_that_moves_it(tmp_path):
    path = tmp_path / 'config.py'
    part = "dict(data_root='x/', ann_file='a.json')"
    path.write_text(f'val_dataloader = dict(dataset=dict(type="C", datasets=[{part}]))')
    with pytest.raises(UserError) as caught:
        check_datasets(load_config(str(path)), 'val')
    option = str(caught.value).rpartition('--cfg-options ')[2].rpartition('=')[0]
    assert option == 'val_dataloader.dataset.datasets.0.data_root'
    (tmp_path / 'a.json').write_text('{}')
    check_datasets(load_config(str(path), {option: str(tmp_path)}), 'val')


def test_missing_checkpoint_is_named():
    with pytest.raises(UserError, match='nowhere.pth'):
        check_checkpoint('nowhere.pth')
    check_checkpoint('https://example.org/x.pth')
