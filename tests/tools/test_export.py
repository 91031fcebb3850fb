"""tools/export.py: the file, what is printed, and errors of one line."""

import pytest
import torch
from in_process import run_here
from run_tools import ROOT

from kw_mm.building import build_model
from kw_mm.errors import UserError
from kw_mm.export import export, runner
from kw_mm.run_config import load_config

CONFIG = ROOT / 'configs/demo/mask_rcnn_kw_shapes.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Weights of the quickstart's model at temperature 1."""
    torch.manual_seed(0)
    model = build_model(load_config(str(CONFIG), {'model.backbone.temperature': 1}))
    path = tmp_path_factory.mktemp('weights') / 'x.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def test_a_detector_is_written_and_compared(tool, checkpoint, tmp_path, capsys, monkeypatch):
    done = tool(
        'export',
        CONFIG,
        checkpoint,
        '--to',
        'torchscript',
        '--part',
        'detector',
        '--output',
        tmp_path / 'x.pt',
        '--size',
        64,
        96,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = {tuple(line[:4]): float(line[4]) for line in lines if len(line) == 5 and line[2] == 'x'}
    assert set(rows) == {
        (str(batch), *size)
        for batch in (1, 2, 3)
        for size in (('64', 'x', '96'), ('101', 'x', '166'))
    }
    assert max(rows.values()) < 1e-4
    assert 'temperature 1: 14 layers were written as plain ones' in done.stdout
    assert len(runner(str(tmp_path / 'x.pt'), 'torchscript')(torch.randn(1, 3, 80, 80))) == 12
    assert [path.name for path in tmp_path.iterdir()] == ['x.pt']
    repeated = 'export', CONFIG, checkpoint, '--output', tmp_path / 'x.pt'
    again = run_here(*repeated, capsys=capsys, monkeypatch=monkeypatch)
    assert again.code == 2 and '--overwrite replaces it' in again.error


@pytest.mark.skipif(not hasattr(torch.compiler, 'is_exporting'), reason='needs torch 2.7')
@pytest.mark.slow
def test_onnx_is_the_default(tool, checkpoint, tmp_path):
    pytest.importorskip('onnxruntime')
    done = tool('export', CONFIG, checkpoint, '--output', tmp_path / 'x.onnx', '--opset', 18)
    assert '293 x 390' in done.stdout and 'feature2' in done.stdout
    graph = pytest.importorskip('onnx').load(tmp_path / 'x.onnx')
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [18]
    assert '123.675' in graph.metadata_props[0].value


def test_errors_are_one_line(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = '--to', 'torchscript', '--tolerance', 0, '--output', 'x'
    done = run_here('export', CONFIG, checkpoint, *options, capsys=capsys, monkeypatch=monkeypatch)
    assert done.code == 2 and 'Traceback' not in done.stderr
    assert 'more than tolerance=0; it was not kept' in done.error  # the one line of its kind
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'config, weights, output, part, message',
    [
        ('nowhere.py', 'x.pth', 'x', 'backbone', "config '.*nowhere.py' does not exist"),
        (
            'demo/mask_rcnn_kw_shapes.py',
            'nowhere.pth',
            'x',
            'backbone',
            "checkpoint '.*nowhere.pth' does not exist",
        ),
        (
            'demo/mask_rcnn_kw_shapes.py',
            'x.pth',
            'nowhere/x',
            'backbone',
            "for '.*nowhere/x' does not exist",
        ),
        ('demo/mask_rcnn_kw_shapes.py', 'x.pth', '.', 'backbone', 'is a folder; name a file in it'),
        ('demo/kw_r50_imagenet_mini.py', 'x.pth', 'x', 'detector', 'has no dense head'),
        (
            'mask_rcnn_kw_mbv2_1x_coco.py',
            'x.pth',
            'x',
            'backbone',
            "config '.*mask_rcnn_kw_mbv2_1x_coco.py': checkpoint '.*x.pth' does not fit",
        ),
        (
            'mask_rcnn_kw_mbv2_1x_coco.py',
            'x.pth',
            'x',
            'detector',
            "config '.*mask_rcnn_kw_mbv2_1x_coco.py': checkpoint '.*x.pth' does not fit",
        ),
    ],
)
def test_what_cannot_be_is_said(checkpoint, tmp_path, config, weights, output, part, message):
    (tmp_path / 'x.pth').write_bytes(checkpoint.read_bytes())
    with pytest.raises(UserError, match=message):
        export(
            str(ROOT / 'configs' / config),
            str(tmp_path / weights),
            'torchscript',
            str(tmp_path / output),
            part=part,
        )
    assert [path.name for path in tmp_path.iterdir()] == ['x.pth']


def test_a_size_that_is_none_is_said(checkpoint, tmp_path):
    with pytest.raises(
        UserError, match='must be positive, got size=-4 64; use for example 256 320'
    ):
        export(str(CONFIG), str(checkpoint), 'torchscript', str(tmp_path / 'x'), size=(-4, 64))
