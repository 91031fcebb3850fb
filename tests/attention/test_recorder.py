import pytest
import torch
from torch import nn

from kw_mm.attention.recorder import AttentionRecorder
from kw_mm.warehouse import apply_kernel_warehouse, kw_layers


def small_net(temperature=0.3, **options):
    net = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 1))
    apply_kernel_warehouse(net, {'all': ['0', '2']}, budget=2, **options)
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
    """CAF's |z| add up to 1 - EPS / (EPS + sum |z|), and softmax to 1, only when the zero cell is counted."""
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
