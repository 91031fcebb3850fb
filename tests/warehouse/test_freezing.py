import pytest
import torch
from torch import nn

from kw_mm.warehouse import apply_kernel_warehouse, freeze_warehouses

PLAN = {'own': ['0'], 'shared': ['1', '2'], 'free': ['3']}


def network(mode):
    """Layers 0 and 1 are frozen; layer 1 shares its warehouse with layer 2."""
    net = apply_kernel_warehouse(
        nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))), PLAN, init='published'
    )
    for layer in (net[0], net[1]):
        layer.requires_grad_(False).eval()
    freeze_warehouses(net, mode)
    return net


def train_a_little(net):
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(2, 8, 6, 6)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    'mode, moved',
    [
        ('none', {'own', 'shared', 'free'}),
        ('exclusive', {'shared', 'free'}),
        ('strict', {'shared', 'free'}),
    ],
)
def test_which_warehouses_train(mode, moved):
    net = network(mode)
    before = {name: warehouse.cells.detach().clone() for name, warehouse in net.warehouses.items()}
    train_a_little(net)
    assert {
        name for name, cells in before.items() if not torch.equal(cells, net.warehouses[name].cells)
    } == moved


@pytest.mark.parametrize('mode, same', [('none', False), ('exclusive', False), ('strict', True)])
def test_only_strict_keeps_frozen_layers_as_they_were(mode, same):
    net, x = network(mode), torch.randn(2, 8, 6, 6)
    before = net[1](x)
    train_a_little(net)
    assert torch.equal(net[1](x), before) == same


def test_strict_is_saved_and_may_be_repeated():
    net, other, x = network('strict'), network('strict'), torch.randn(2, 8, 6, 6)
    train_a_little(net)
    freeze_warehouses(net, 'strict')
    assert 'warehouses.shared.frozen_cells' in net.state_dict()
    other.load_state_dict(net.state_dict())
    assert torch.equal(net[1](x), other[1](x)) and torch.equal(net.eval()(x), other.eval()(x))


def test_strict_takes_its_copy_from_a_checkpoint_without_one():
    net, source = network('strict'), network('none')
    net.load_state_dict(source.state_dict())
    assert torch.equal(net.warehouses['shared'].frozen_cells, source.warehouses['shared'].cells)


def test_a_placed_kernel_reaches_the_frozen_copy():
    net, kernel, x = network('strict'), torch.randn(8, 8, 3, 3), torch.randn(2, 8, 6, 6)
    net[1].place_kernel(kernel)
    net.warehouses.set_temperature(1)
    expected = nn.functional.conv2d(x, kernel, net[1].bias, padding=1)
    torch.testing.assert_close(net[1](x), expected, rtol=1e-4, atol=1e-5)


def test_unknown_mode_is_refused():
    with pytest.raises(
        ValueError,
        match="freeze_warehouses must be one of 'none', 'exclusive', 'strict', "
        "got freeze_warehouses='all'",
    ):
        network('all')
