"""Configs analysed: builds and runs them at small sizes."""

import pytest
from in_process import run_here
from run_tools import ROOT

from kw_mm.analysis.report import analyze, analyze_and_print, print_analyses
from kw_mm.errors import UserError

BOX_HEAD = 256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 320)
MASK_HEAD = 4 * 256 * 256 * 9 * 14**2 + 256 * 256 * 4 * 14**2 + 256 * 80 * 28**2


@pytest.mark.parametrize(
    'name, parameters, assembly',
    [
        ('kw_r18_100e_in1k', 11.93, 0.385),
        ('kw_r50_100e_in1k', 28.05, 2.04),
        ('kw4x_r50_100e_in1k', 102.02, 8.14),
    ],
)
def test_classifiers_have_the_published_size_and_assembly(name, parameters, assembly):
    cost = analyze(str(ROOT / f'configs/imagenet/{name}.py'), (64, 64)).cost
    assert round(cost.parameters / 1e6, 2) == parameters
    assert cost.assembly / 1e9 == pytest.approx(assembly, abs=0.005)


def test_static_classifier_at_its_own_size():
    found = analyze(str(ROOT / 'configs/imagenet/r18_100e_in1k.py'))
    assert found.size == (224, 224) and not found.warehouses
    assert found.cost.static / 1e9 == pytest.approx(1.814, abs=5e-4)  # as published for ResNet-18
    assert found.cost.multiply_adds == found.cost.static


def test_heads_of_a_detector_see_1000_boxes_and_100_masks():
    found = analyze(str(ROOT / 'configs/mask_rcnn_kw_mbv2_1x_coco.py'), (64, 96))
    assert list(found.parts) == ['backbone', 'neck', 'rpn_head', 'roi_head']
    assert found.parts['roi_head'].static == 1000 * BOX_HEAD + 100 * MASK_HEAD
    assert found.parts['backbone'].assembly == found.cost.assembly > 0
    assert [row.name for row in found.warehouses][:2] == ['stem', 'stage1_depthwise']


@pytest.mark.parametrize(
    'text, message',
    [
        ('x = 1', 'must have a model'),
        ("model = dict(type='Nonsense')", 'cannot be built.*Nonsense'),
        (
            "custom_imports = dict(imports=['kw_mm'])\nmodel = dict(type='KWResNet', depth=20)",
            'cannot be built.*depth=20',
        ),
    ],
)
def test_bad_configs_are_named(tmp_path, text, message):
    path = tmp_path / 'bad.py'
    path.write_text(text)
    with pytest.raises(UserError, match=f'bad.py.*{message}'):
        analyze(str(path))


@pytest.mark.parametrize('size', [(0, 64), (-1, 5)])
def test_a_size_must_be_positive(size):
    with pytest.raises(UserError, match=f'got {size[0]} {size[1]}; use for example 224 224'):
        analyze(str(ROOT / 'configs/imagenet/r18_100e_in1k.py'), size)


def test_the_command(tool):
    done = tool(
        'analyze_model',
        ROOT / 'configs/imagenet/kw_r18_100e_in1k.py',
        '--markdown',
        '--size',
        64,
        64,
    )
    printed = done.stdout[done.stdout.index('|') :].strip()
    tables = [
        [line.strip('| ').split(' | ') for line in table.splitlines()]
        for table in printed.split('\n\n')
    ]
    summary, parts, warehouses = tables
    assert summary[2][:2] == ['kw_r18_100e_in1k.py, 64 x 64', '11.93'] and summary[2][4] == '0.3849'
    assert [row[0] for row in parts[2:]] == ['backbone', 'head']
    assert [row[:4] for row in warehouses[2:]] == [
        ['stage1', '64 x 64 x 1 x 1', '56', '56'],
        ['stage2', '128 x 128 x 1 x 1', '47', '47'],
        ['stage3', '256 x 256 x 1 x 1', '47', '47'],
        ['stage4', '512 x 512 x 1 x 1', '27', '27'],
    ]
    assert 'backbone.layer3.0.conv1 (18), backbone.layer3.0.downsample.0 (2)' in warehouses[3][4]


def test_tables_for_the_terminal(capsys):
    print_analyses([analyze(str(ROOT / 'configs/imagenet/kw_r18_100e_in1k.py'), (64, 64))])
    printed = capsys.readouterr().out
    assert '11.93' in printed and 'stage4' in printed


def test_the_command_names_a_missing_config(capsys, monkeypatch):
    failed = run_here('analyze_model', 'nowhere.py', capsys=capsys, monkeypatch=monkeypatch)
    assert failed.code == 2 and 'nowhere.py' in failed.stderr and 'Traceback' not in failed.stderr


def test_a_bad_config_does_not_end_the_others(capsys):
    good = str(ROOT / 'configs/imagenet/r18_100e_in1k.py')
    with pytest.raises(UserError, match="config 'nowhere.py' does not exist"):
        analyze_and_print(['nowhere.py', good], (32, 32), markdown=True)
    assert 'r18_100e_in1k.py, 32 x 32' in capsys.readouterr().out
