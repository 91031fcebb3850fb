"""What is measured on a GPU, rehearsed on a CPU."""

import gc
import json
import weakref
from functools import partial

import pytest
import torch
from in_process import run_here
from torch import nn

from kw_mm.analysis import detector_benchmarking, gpu_benchmarking, variants
from kw_mm.analysis.bare_networks import build_bare
from kw_mm.analysis.gpu_benchmarking import (
    GOALS,
    Measured,
    best_of,
    different,
    makes_sense,
    measure_all,
    measure_pair,
    report_of,
    table_of,
)
from kw_mm.analysis.shape_table import layer_shapes, shape_report, short_shapes, time_shapes
from kw_mm.analysis.variants import Setting, build, build_backbone, check_setting, model_config
from kw_mm.errors import UserError
from kw_mm.warehouse import kw_layers

SMALL = Setting('kw1x-r18', 'train', 2, (32, 32))
TINY = SMALL._replace(model='kw1x-mbv2')


def sizes(network):
    """Cells of each warehouse, and how many layers of each kernel shape draw on it."""
    found = {name: [tuple(one.cells.shape)] for name, one in network.warehouses.items()}
    for layer in kw_layers(network).values():
        found[layer.warehouse_name].append(
            (layer.partition.kernel_shape, layer.start_cells[0].item())
        )
    return found


@pytest.mark.usefixtures('unfilled')
@pytest.mark.parametrize('name', ['kw1x-r18', 'kw4x-r50', 'kw1x-mbv2', 'kw4x-mbv2'])
def test_networks_without_openmmlab_have_the_published_plans(name, monkeypatch):
    expected = build_backbone(model_config(name), name)
    monkeypatch.setattr(variants, 'has_openmmlab', lambda: False)
    found = build_backbone(model_config(name), name)
    assert sizes(found) == sizes(expected)
    count = [sum(p.numel() for p in one.parameters()) for one in (found, expected)]
    assert count[0] == count[1]


def test_odconv_without_openmmlab(monkeypatch):
    name = 'odconv4x-r50'
    expected = build_backbone(model_config(name), name)
    monkeypatch.setattr(variants, 'has_openmmlab', lambda: False)
    found = build_backbone(model_config(name), name)
    count = [sum(p.numel() for p in one.parameters()) for one in (found, expected)]
    assert count[0] == count[1]
    with pytest.raises(UserError, match='dyconv4x needs OpenMMLab'):
        build_backbone(model_config('dyconv4x-r18'), 'dyconv4x-r18')


def test_a_bare_network_gives_the_four_maps_of_a_backbone():
    for network, channels in (('r18', [64, 128, 256, 512]), ('mbv2', [24, 32, 96, 320])):
        maps = build_bare(network, 'static', {}).eval()(torch.zeros(1, 3, 64, 64))
        assert [one.shape[1] for one in maps] == channels
        assert [one.shape[2] for one in maps] == [16, 8, 4, 2]


def test_the_goals_can_be_measured():
    for setting in GOALS:
        check_setting(setting)
    assert len(GOALS) == len(set(GOALS))
    assert {one.model for one in GOALS} >= {'kw1x-r50', 'kw4x-r50', 'odconv4x-r50', 'kw4x-mbv2'}


def test_a_pair_is_measured_and_a_failure_is_told(monkeypatch):
    found = measure_all([TINY], ['cuda', 'recomputed'], ['eager', 'graph'], 1)
    assert [one.way for one in found] == ['cuda', 'recomputed']
    assert all(one.plain > 0 and one.median > 0 and one.spread >= 0 for one in found)

    def fail(*args):
        raise RuntimeError('CUDA out\nof memory')

    monkeypatch.setattr('kw_mm.analysis.gpu_benchmarking.run_once', fail)
    failed, plain = measure_pair(TINY, 'torch', 'eager', 1)
    assert plain is None
    assert failed.failed == 'RuntimeError: CUDA out of memory'
    assert 'out of memory' in table_of([failed]) and 'failed' not in best_of([*found, failed])


def test_which_variants_there_are():
    on_gpu = SMALL._replace(device='cuda')
    assert makes_sense(on_gpu, 'triton', 'graph') and not makes_sense(SMALL, 'triton', 'graph')
    assert not makes_sense(on_gpu, 'reference', 'compiled')
    assert not makes_sense(on_gpu._replace(mode='forward'), 'recomputed', 'eager')
    assert not makes_sense(on_gpu._replace(model='odconv4x-r50'), 'recomputed', 'eager')


def test_backends_that_are_one_for_one_image_are_measured_once():
    ways = ('reference', 'torch', 'cuda', 'triton', 'triton-conv')
    assert different(SMALL, ways) == list(ways)
    one = SMALL._replace(batch=1, dtype='bfloat16')
    assert different(one, ways) == ['reference', 'torch', 'triton']
    exact = one._replace(dtype='float32')
    assert different(exact, ways) == list(ways)
    assert different(one, ['cuda', 'triton-conv']) == ['cuda', 'triton-conv']


def test_nothing_is_measured_on_a_lost_gpu(monkeypatch):
    monkeypatch.setattr(gpu_benchmarking, 'prepared', lambda *args: 1 / 0)
    for lost, count in ((False, 3), (True, 1)):
        monkeypatch.setattr(gpu_benchmarking, 'is_lost', lambda device, lost=lost: lost)
        found = measure_all([SMALL], ['torch', 'cuda', 'triton'], ['eager'], 1)
        assert len(found) == count and all('ZeroDivisionError' in one.failed for one in found)


def test_compiled_code_is_not_taken_from_another_backend(monkeypatch):
    """Dynamo's cache is one for networks of one structure: it is emptied after each way."""
    pairs, forgotten = [], []

    def measured(setting, way, run, repetitions, plain):
        pairs.append((way, run, plain))
        return Measured(setting, way, run), 'a plain step'

    monkeypatch.setattr(gpu_benchmarking, 'measure_pair', measured)
    monkeypatch.setattr(gpu_benchmarking, 'forget', lambda device: forgotten.append(len(pairs)))
    measure_all([SMALL], ['torch', 'triton'], ['eager', 'compiled'], 1)
    assert pairs == [
        ('torch', 'eager', None),
        ('triton', 'eager', 'a plain step'),
        ('torch', 'compiled', None),
        ('triton', 'compiled', None),
    ]
    assert forgotten == [2, 3, 4, 4]


def test_a_replayed_graph_keeps_what_it_works_on():
    class Graph:
        replay = staticmethod(lambda: None)

    network = nn.Linear(1, 1)
    gone = weakref.ref(network)
    replay = partial(gpu_benchmarking._replay, Graph(), lambda kept=network: None)
    del network
    gc.collect()
    assert gone() is not None
    replay()


def test_the_tables():
    rows = [
        Measured(SMALL, way, 'graph', 2.0, ms, 0.1)
        for way, ms in (('reference', 8.0), ('torch', 4.0), ('triton', 3.0))
    ]
    assert '| kw1x-r18 | train | 2, 32 x 32 | graph | triton | 1.50 | 4.00 | 2.00 |' in best_of(
        rows
    )
    page = report_of('A card', 'cpu', 'python x', {'All': table_of(rows)})
    assert 'a rehearsal' in page and f'torch {torch.__version__.split("+")[0]}' in page
    assert page.count('\n| kw1x-r18 |') == 3


def test_layer_shapes_are_those_of_the_network():
    shapes = layer_shapes(SMALL._replace(size=(64, 96)))
    layers = kw_layers(build(SMALL, 'fast'))
    assert sum(shape.count for shape in shapes) == len(layers)
    kinds = [shape.geometry.is_pointwise for shape in shapes]
    assert kinds == sorted(kinds)  # 3x3 ones first
    sizes = [shape.size for shape in shapes if not shape.geometry.is_pointwise]
    assert sizes == sorted(sizes, reverse=True) and (sizes[0], sizes[-1]) == ((16, 24), (2, 3))
    assert any(shape.words == '64 -> 128, 3 x 3 / 2, 16 x 24' for shape in shapes)


def test_shapes_are_timed_in_every_way(monkeypatch):
    layers = layer_shapes(SMALL)
    few = [layers[0], next(one for one in layers if one.geometry.is_pointwise)]
    monkeypatch.setattr('kw_mm.analysis.shape_table.layer_shapes', lambda setting: few)
    timed = time_shapes(SMALL, 1)
    tables, short = shape_report(timed), short_shapes(timed).splitlines()
    assert len(short) == 2 + 2 * len(few) and 'mixing: torch' in short[0]
    assert not any(' nan ' in line for line in short)
    assert {'forward (ms)', 'by features (ms)', 'by kernels (ms)', 'mixing (ms)'} <= set(tables)
    header, _, *rows = tables['forward (ms)'].splitlines()
    assert all(way in header for way in ('plain', 'grouped', 'in turn', 'patches', 'bmm'))
    assert len(rows) == 2 * len(few) and 'nhwc' in rows[0]


def test_the_command(tmp_path, capsys, monkeypatch):
    page, numbers = tmp_path / 'page.md', tmp_path / 'all.json'
    arguments = ['--model', 'kw1x-mbv2', '--size', 32, '--mode', 'forward', '--device', 'cpu']
    arguments += ['--ways', 'reference', 'torch', '--repetitions', 1]
    arguments += ['--report', page, '--json', numbers]
    done = run_here('benchmark', *arguments, capsys=capsys, monkeypatch=monkeypatch)
    assert done.code == 0 and '## Best of each' in page.read_text()
    records = json.loads(numbers.read_text())['records']
    assert [one['way'] for one in records] == ['reference', 'torch']
    failed = run_here(
        'benchmark',
        '--ways',
        'torch',
        '--report',
        tmp_path / 'no/page.md',
        capsys=capsys,
        monkeypatch=monkeypatch,
    )
    assert failed.code == 2 and 'there is no such folder' in failed.error


def test_detectors_take_turns(monkeypatch):
    monkeypatch.setattr(detector_benchmarking, 'DETECTORS', 2 * ('demo/mask_rcnn_kw_shapes',))
    found = detector_benchmarking.measure_detectors('cpu', 'float32', 1, (64, 96))
    assert found[0].ratio == 1 and all(one.median > 0 for one in found)
    assert detector_benchmarking.detector_table(found).count('mask_rcnn_kw_shapes') == 2


def test_attention_of_a_bare_network_trains():
    network = build_bare('r18', 'kw', dict(budget=1))
    sum(one.mean() for one in network(torch.randn(2, 3, 32, 32))).backward()
    unused = [key for key, p in network.named_parameters() if p.grad is None]
    assert not unused and isinstance(network.warehouses, nn.Module)
