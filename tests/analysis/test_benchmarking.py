import json

import pytest
import torch
from in_process import run_here
from mmengine.registry import MODELS

from kw_mm.analysis import benchmarking
from kw_mm.analysis.benchmarking import measure, peak_memory, step_of
from kw_mm.analysis.profiling import TIMED_PARTS, profile_forward
from kw_mm.analysis.variants import (
    BENCHMARK_MODES,
    KINDS,
    NETWORKS,
    Setting,
    build,
    check_setting,
    model_config,
    variants,
)
from kw_mm.errors import BatchSizeError, UserError
from kw_mm.models import KWResNet, StaticResNet
from kw_mm.ops import backend_for, reference_path
from kw_mm.training.launch import keep_freed_memory
from kw_mm.warehouse import HasTemperature


def test_every_variant_is_timed_and_compared_with_the_plain_network():
    setting = Setting('kw1x-mbv2', 'train', batch=2, size=(32, 32), recompute=True)
    results = {result.variant: result for result in measure(setting, 2, memory=False)}
    assert (
        list(results)
        == variants(setting)
        == ['plain', 'reference', 'fast', 'fast, kernels recomputed']
    )
    assert all(result.median > 0 and result.spread >= 0 for result in results.values())
    assert results['plain'].ratio == 1
    assert results['fast'].ratio == pytest.approx(results['fast'].median / results['plain'].median)


def test_the_reference_variant_has_the_published_memory_order_and_the_same_values():
    setting = Setting('kw1x-r18', size=(32, 32))
    reference, fast = build(setting, 'reference').eval(), build(setting, 'fast').eval()
    fast.load_state_dict(reference.state_dict())
    warehouse = reference.warehouses['stage4']
    assert len(warehouse.cells) == warehouse.num_cells and warehouse.cells.is_contiguous()
    assert not fast.warehouses['stage4'].cells.is_contiguous()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        with reference_path():
            expected = reference(x)[-1]
        torch.testing.assert_close(
            fast(x)[-1], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
        )


@pytest.mark.parametrize('name', ['kw3x-r50', 'kw1x-vgg', 'r50', ''])
def test_an_unknown_model_is_refused(name):
    with pytest.raises(
        UserError,
        match=f"model '{name}' is unknown; choose KIND-NETWORK with KIND one of kw1d2x, kw1x",
    ):
        model_config(name)


def test_the_profile_accounts_for_the_whole_pass_and_leaves_no_trace():
    backbone = KWResNet(18, 1).eval()
    parts = profile_forward(backbone, torch.randn(1, 3, 64, 64), repetitions=1)
    assert tuple(parts) == TIMED_PARTS and all(seconds > 0 for seconds in parts.values())
    for owner in (backbone, backbone.layer2[0].conv1, backend_for(torch.randn(1))):
        assert not {'forward', 'weigh', 'kernels'} & set(vars(owner))
    with pytest.raises(ValueError, match='StaticResNet has no kernel warehouses'):
        profile_forward(StaticResNet(18), torch.randn(1, 3, 64, 64))


def test_freed_memory_can_be_kept_where_there_is_a_glibc():
    assert keep_freed_memory() in (True, False)
    assert torch.zeros(2**24).sum() == 0


@pytest.mark.parametrize('network', NETWORKS)
@pytest.mark.parametrize('kind', KINDS)
def test_every_model_is_built_from_registered_backbones(kind, network):
    plain, dynamic = (
        MODELS.get(model_config(f'{kind}-{network}', static=static)['type'])
        for static in (True, False)
    )
    assert plain.__name__.startswith('Static') and issubclass(dynamic, plain)
    assert issubclass(dynamic, HasTemperature) == kind.startswith('kw')


@pytest.mark.parametrize('kind', ['kw1x', 'odconv1x', 'dyconv4x'])
def test_what_one_image_cannot_train_is_refused(kind):
    """And nothing else is: the table of kinds says what the attention itself does."""
    setting = Setting(f'{kind}-r18', 'train', batch=1, size=(64, 64))
    check_setting(setting._replace(batch=2))
    check_setting(setting._replace(mode='forward'))
    if not KINDS[kind].batch_norm:
        check_setting(setting)
        step_of(setting, 'fast')()
        return
    with pytest.raises(UserError, match=f'{kind} normalises .* got --batch 1; use --batch 2'):
        check_setting(setting)
    with pytest.raises(BatchSizeError):
        step_of(setting, 'fast')()


def test_peak_memory_is_that_of_a_process_of_its_own():
    """With the libraries, of which torch has more than 50 MiB."""
    assert 50 < peak_memory(Setting('kw1x-r18', size=(32, 32)), 'fast') < 3000


def test_the_command(tool, tmp_path):
    done = tool(
        'benchmark',
        '--model',
        'kw1x-r18',
        'odconv1x-r18',
        '--mode',
        'forward',
        '--batch',
        1,
        '--size',
        32,
        '--repetitions',
        1,
        '--cells',
        'bfloat16',
        '--folded',
        '--no-memory',
        '--json',
        tmp_path / 'out.json',
    )
    assert done.returncode == 0 and 'ratio to plain' in done.stdout
    names = ['plain', 'reference', 'fast']
    runs = json.loads((tmp_path / 'out.json').read_text())['runs']
    assert [[result['variant'] for result in run['results']] for run in runs] == [
        [*names, 'fast, cells in bfloat16', 'plain, folded', 'fast, folded'],
        [*names, 'plain, folded', 'fast, folded'],
    ]


def test_the_defaults_can_be_measured(capsys, monkeypatch):
    measured = []

    def measure_small(setting, repetitions, memory):
        step_of(setting._replace(size=(64, 64)), 'fast')()
        measured.append((setting.model, setting.mode, memory))
        return []

    monkeypatch.setattr(benchmarking, 'measure', measure_small)
    assert run_here('benchmark', capsys=capsys, monkeypatch=monkeypatch).code == 0
    assert measured == [('kw1x-r50', mode, True) for mode in BENCHMARK_MODES]


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--model', 'kw1x-r81'], "model 'kw1x-r81' is unknown"),
        (['--model', 'odconv4x-r50', '--profile'], 'odconv4x-r50 has none'),
        (['--batch', '0'], '--batch 0'),
        (['--size', '64', '64', '64'], '--size 64 64 64'),
        (['--repetitions', '0'], '--repetitions 0'),
        (['--json', 'nowhere/out.json'], 'there is no such folder'),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_measured(
    arguments, message, capsys, monkeypatch
):
    monkeypatch.setattr(benchmarking, 'measure', None)
    failed = run_here('benchmark', *arguments, capsys=capsys, monkeypatch=monkeypatch)
    assert failed.code == 2 and failed.stderr.startswith('error: ') and message in failed.stderr
