import json

import pytest
import torch

from kw_mm.analysis.profile import PARTS, profile_forward
from kw_mm.analysis.speed import Setting, build, measure, model_config, variants
from kw_mm.errors import UserError
from kw_mm.models import KWResNet, StaticResNet
from kw_mm.ops import reference_path
from kw_mm.training.launch import keep_freed_memory


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
    cells = reference.warehouses['stage4'].cells
    assert cells.transpose(0, 1).is_contiguous() and not cells.is_contiguous()
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
    assert tuple(parts) == PARTS and all(seconds > 0 for seconds in parts.values())
    assert 'forward' not in vars(backbone.layer2[0].conv1)
    with pytest.raises(ValueError, match='StaticResNet has no kernel warehouses'):
        profile_forward(StaticResNet(18), torch.randn(1, 3, 64, 64))


def test_freed_memory_can_be_kept_where_there_is_a_glibc():
    assert keep_freed_memory() in (True, False)
    assert torch.zeros(2**24).sum() == 0


def test_the_command(tool, tmp_path):
    done = tool(
        'benchmark',
        '--model',
        'kw1x-r18',
        'odconv1x-r18',
        '--mode',
        'forward',
        '--size',
        32,
        '--repetitions',
        1,
        '--cells',
        'bfloat16',
        '--json',
        tmp_path / 'out.json',
    )
    assert done.returncode == 0 and 'ratio to plain' in done.stdout
    runs = json.loads((tmp_path / 'out.json').read_text())['runs']
    assert [[result['variant'] for result in run['results']] for run in runs] == [
        ['plain', 'reference', 'fast', 'fast, cells in bfloat16'],
        ['plain', 'reference', 'fast'],
    ]
    assert all(result['memory'] > 50 for run in runs for result in run['results'])


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--model', 'kw1x-r81'], "model 'kw1x-r81' is unknown"),
        (['--model', 'odconv4x-r50', '--profile'], 'odconv4x-r50 has none'),
        (['--batch', '0'], '--batch 0'),
        (['--json', 'nowhere/out.json'], 'there is no such folder'),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_measured(tool, arguments, message):
    failed = tool('benchmark', *arguments, ok=False)
    assert (
        failed.returncode == 2 and failed.stderr.startswith('error: ') and message in failed.stderr
    )
