import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from kw_mm.attention.recording import AttentionRecorder, gather_attention
from kw_mm.warehouse import apply_kernel_warehouse, kw_layers


def small_net(temperature=0.3, **options):
    net = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 1))
    apply_kernel_warehouse(net, {'all': ['0', '2']}, budget=2, **options, init='published')
    net.warehouses.set_temperature(temperature)
    return net


OPTIONS = [
    dict(),
    dict(zero_cell=False),
    dict(attention_function='softmax'),
    dict(attention_norm='LN'),
    dict(attention_norm='none'),
    dict(nonlocal_basis_ratio=1 / 16),
]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('training', [True, False])
def test_it_keeps_what_the_layers_used(options, training):
    net = small_net(**options).train(training)
    answers = {}
    for name, layer in kw_layers(net).items():
        layer.attention.register_forward_hook(
            lambda module, inputs, output, name=name: answers.update({name: output})
        )
    with AttentionRecorder(kw_layers(net)) as recorder:
        net(torch.randn(3, 16, 8, 8))
    taken = recorder.take()
    assert set(taken) == {'0', '2'}
    for name, alpha in taken.items():
        beta, cells = kw_layers(net)[name].attention.beta, net.warehouses['all'].num_cells
        assert alpha.shape == (3, *beta.shape) and not alpha.requires_grad
        assert beta.shape[1] == cells + options.get('zero_cell', True)
        torch.testing.assert_close(alpha[..., :cells], answers[name])
    assert recorder.take() == {}


def test_the_zero_cell_completes_the_attention():
    """With the zero cell counted, and only then, CAF's |alpha| add up to nearly 1, softmax's to 1.

    CAF's sum is 1 - EPS / (EPS + sum |z|).
    """
    for function in ('caf', 'softmax'):
        net = small_net(temperature=0, attention_function=function).eval()
        with AttentionRecorder(kw_layers(net)) as recorder:
            net(torch.randn(2, 16, 8, 8))
        for alpha in recorder.take().values():
            torch.testing.assert_close(
                alpha.abs().sum(dim=-1), torch.ones(alpha.shape[:2]), atol=0.01, rtol=0
            )
            assert (alpha[..., :-1].abs().sum(dim=-1) < 0.9999).any()


def test_training_goes_on_as_if_nobody_listened():
    net, twin, x = small_net(), small_net(), torch.randn(4, 16, 8, 8)
    twin.load_state_dict(net.state_dict())
    twin(x).square().mean().backward()
    with AttentionRecorder(kw_layers(net)):
        net(x).square().mean().backward()
    for (name, one), (_, other) in zip(net.named_parameters(), twin.named_parameters()):
        assert torch.equal(one.grad, other.grad), name
    for (name, one), (_, other) in zip(net.named_buffers(), twin.named_buffers()):
        assert torch.equal(one, other), name


def test_nothing_stays_attached():
    net = small_net()
    with AttentionRecorder(kw_layers(net)) as recorder:
        assert sum(len(module._forward_hooks) for module in net.modules()) == 4
    assert not any(module._forward_hooks for module in net.modules())
    net(torch.randn(2, 16, 8, 8))
    assert recorder.take() == {}


def test_a_classifier_whose_head_has_a_warehouse_too():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=dict(type='KWMobileNetV2', widen_factor=0.5, budget=1),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='KWLinearClsHead', num_classes=10, in_channels=1280),
            )
        ).eval()
    with AttentionRecorder(kw_layers(model)) as recorder, torch.no_grad():
        model(torch.randn(2, 3, 64, 64))
    found = gather_attention(model, recorder.take())
    names = [warehouse.name for warehouse in found]
    assert (
        'stage1_pointwise' in names and names[-1] == 'classifier' and len(set(names)) == len(names)
    )
    assert sum(len(warehouse.layers) for warehouse in found) == len(kw_layers(model))


def test_warehouses_of_the_same_name_are_told_apart():
    net = nn.ModuleDict(dict(a=small_net(0).eval(), b=small_net(1).eval()))
    with AttentionRecorder(kw_layers(net)) as recorder:
        for part in net.values():
            part(torch.randn(2, 16, 8, 8))
    found = gather_attention(net, recorder.take())
    assert [(one.name, one.temperature) for one in found] == [('a.all', 0), ('b.all', 1)]


def test_layers_that_did_not_run_are_left_out():
    net = small_net(0).eval()
    (found,) = gather_attention(
        net, {'0': torch.rand(1, *kw_layers(net)['0'].attention.beta.shape)}
    )
    assert [layer.name for layer in found.layers] == ['0']
    assert gather_attention(net, {}) == []
