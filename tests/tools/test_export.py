"""tools/export.py: the file, what is printed, and errors of one line."""

import pytest
import torch
from in_process import run_here
from run_tools import ROOT

from kw_mm.building import build_model
from kw_mm.errors import UserError
from kw_mm.export import BackbonePart, export, pipeline, runner
from kw_mm.export.comparison import Row, compare_exactly
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


def test_a_detectors_maps_are_written_and_compared(tool, checkpoint, tmp_path, capsys, monkeypatch):
    done = tool(
        'export',
        CONFIG,
        checkpoint,
        '--to',
        'torchscript',
        '--part',
        'maps',
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
    assert 'constant attention: 14 layers were written as plain ones' in done.stdout
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
    assert 'more than tolerance=0, where PyTorch' in done.error  # the one line of its kind
    assert "kept as 'x.deviating'" in done.error and '--tolerance ' in done.error
    assert [path.name for path in tmp_path.iterdir()] == ['x.deviating']


@pytest.mark.parametrize(
    'times, fits', [(2, True), (20, False)], ids=['rounding', 'more than rounding']
)
def test_a_deviation_is_judged_by_pytorchs_own_rounding(
    checkpoint, tmp_path, monkeypatch, times, fits
):
    """A file that is off by 1.3e-4: as exact as float32 allows, or not."""
    part = BackbonePart(build_model(load_config(str(CONFIG))))

    def off_by(rounding):
        def compared(network, run, sizes, batches):
            return [Row(1, sizes[0], times * rounding, rounding)]

        return compared

    monkeypatch.setattr(pipeline, 'compare', lambda *args: [Row(1, (64, 64), 1.3e-4)])
    monkeypatch.setattr(pipeline, 'compare_exactly', off_by(1e-4))
    options = str(CONFIG), str(checkpoint), 'torchscript', str(tmp_path / 'x.pt')
    if fits:
        (row,) = export(*options, size=(64, 64)).rows
        assert row.rounding == 1e-4 and (tmp_path / 'x.pt').is_file()
        return
    with pytest.raises(UserError, match=r'differs from PyTorch by 2.0e-03 .*--tolerance 4e-03'):
        export(*options, size=(64, 64))
    kept = tmp_path / 'x.deviating.pt'
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    found = runner(str(kept), 'torchscript')(torch.randn(1, 3, 64, 64))
    assert len(found) == len(part.backbone.out_indices)


def test_comparing_with_float64():
    """A file in float32 is as far from float64 as PyTorch in float32; a wrong one is further."""
    torch.manual_seed(0)
    backbone = build_model(load_config(str(CONFIG))).backbone.eval()
    part = BackbonePart(backbone).requires_grad_(False)
    sizes = [(64, 96), (71, 65)]
    rows = compare_exactly(part, lambda images: list(part(images)), sizes)
    assert len(rows) == 6 and all(row.deviation == row.rounding > 0 for row in rows)
    wrong = compare_exactly(part, lambda images: [1.01 * out for out in part(images)], sizes)
    assert all(row.deviation > max(4 * row.rounding, 0.005) for row in wrong)
    assert next(part.parameters()).dtype == torch.float32


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
        ('demo/kw_r50_imagenet_mini.py', 'x.pth', 'x', 'maps', 'has no dense head'),
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
            'maps',
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


@pytest.mark.parametrize(
    'to, options, message',
    [
        ('torchscript', dict(part='detector'), '--part detector goes to ONNX, got'),
        ('onnx', dict(with_preprocessing=True), 'goes with --part detector, got --part backbone'),
        ('onnx', dict(part='maps', pictures=['x']), '--images goes with --part detector'),
        ('torchscript', dict(static_batch=1), 'a TorchScript file takes any batch and size'),
        ('onnx', dict(static_batch=0), '--static-batch must be 1 or more, got 0'),
        ('onnx', dict(static_size=(0, 64)), 'must be positive, got static_size=0 64'),
        pytest.param(
            'onnx',
            dict(part='detector', pictures=['nowhere']),
            "--images 'nowhere' does not exist",
            marks=pytest.mark.skipif(
                not hasattr(torch.library, 'custom_op'), reason='needs torch 2.4'
            ),
        ),
    ],
)
def test_what_cannot_be_combined_is_said(checkpoint, tmp_path, to, options, message, monkeypatch):
    monkeypatch.setattr(pipeline, 'check_format', lambda to, opset: None)
    with pytest.raises(UserError, match=message):
        export(str(CONFIG), str(checkpoint), to, str(tmp_path / 'x'), **options)
    assert not list(tmp_path.iterdir())


def test_a_size_that_is_none_is_said(checkpoint, tmp_path):
    with pytest.raises(
        UserError, match='must be positive, got size=-4 64; use for example 256 320'
    ):
        export(str(CONFIG), str(checkpoint), 'torchscript', str(tmp_path / 'x'), size=(-4, 64))
