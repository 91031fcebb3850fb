import pytest
import torch
from torch import nn

from kw_mm.attention.recording import AttentionRecorder, gather_attention
from kw_mm.attention.statistics import (
    LayerAttention,
    WarehouseAttention,
    entropy,
    mean_summary,
    shares,
)
from kw_mm.warehouse import apply_kernel_warehouse, kw_layers


def listen(net, x):
    with AttentionRecorder(kw_layers(net)) as recorder, torch.no_grad():
        net(x)
    return gather_attention(net, recorder.take())


def small_net(temperature, **options):
    net = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 1))
    apply_kernel_warehouse(
        net, {'all': ['2', '0']}, cell_ratio=(1 / 2, 1), **options, init='published'
    )
    net.warehouses.set_temperature(temperature)
    return net.eval()


@pytest.mark.parametrize(
    'weights, expected',
    [
        ([0.0, -3.0, 0.0, 0.0], 0),
        ([0.5, -0.5, 0.5, -0.5], 1),
        ([2.0, -2.0, 0.0, 0.0], 0.5),
        ([0.0, 0.0, 0.0, 0.0], 1),
    ],
)
def test_entropy(weights, expected):
    assert float(entropy(torch.tensor(weights))) == pytest.approx(expected, abs=1e-6)


def test_shares_are_relative_sizes():
    torch.testing.assert_close(
        shares(torch.tensor([[1.0, -3.0], [0.0, 0.0]])), torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    )


@pytest.mark.parametrize('budget', [1, 2, 1 / 2])
def test_at_temperature_1_start_cells_take_all(budget):
    (found,) = listen(small_net(1, budget=budget), torch.randn(2, 16, 8, 8))
    summary = found.summary
    assert found.temperature == 1
    assert summary['entropy'] == summary['negative'] == summary['by image'] == 0
    assert summary['start cells'] == pytest.approx(min(budget, 1))
    assert summary['zero cell'] == pytest.approx(max(1 - budget, 0))
    torch.testing.assert_close(found.alpha.mean(dim=0), found.starts.float())


@pytest.mark.parametrize(
    'images, expected',
    [
        ([[1.0, 0.0]], 0),
        ([[1.0, 0.0], [1.0, 0.0]], 0),
        ([[1.0, 0.0], [0.0, 1.0]], 1),
        ([[0.75, -0.25], [0.25, -0.75]], 0.5),
        ([[0.0, 0.0], [0.0, 0.0]], 0),  # as a ReLU may leave it
    ],
)
def test_attention_by_image_is_its_distance_from_the_mean(images, expected):
    alpha, beta = torch.tensor(images)[:, None], torch.tensor([[1.0, 0.0]])
    found = WarehouseAttention('x', 2, 0, [LayerAttention('a', alpha, beta)])
    assert found.summary['by image'] == pytest.approx(expected)
    twice = mean_summary([found, found])
    assert twice == pytest.approx(found.summary)
    assert mean_summary([]) == {}


@pytest.mark.parametrize('budget, per_mixture', [(1, 1), (2, 2), (1 / 2, 0.5)])
def test_layers_are_in_the_order_of_the_plan_and_own_their_cells(budget, per_mixture):
    (found,) = listen(small_net(0, budget=budget), torch.randn(2, 16, 8, 8))
    assert [layer.name for layer in found.layers] == ['2', '0']
    counts = [layer.alpha.shape[1] for layer in found.layers]
    assert found.owners.tolist() == [0] * int(counts[0] * per_mixture) + [1] * int(
        counts[1] * per_mixture
    )


@pytest.mark.parametrize('start', ['all_to_all', 'none'])
def test_where_layers_start_from_the_same_cells_nobody_owns_them(start):
    (found,) = listen(small_net(0.5, start=start), torch.randn(2, 16, 8, 8))
    assert found.owners is None
    assert 0 <= found.summary['start cells'] <= 1


def test_without_a_zero_cell():
    (found,) = listen(small_net(0, zero_cell=False), torch.randn(2, 16, 8, 8))
    assert found.zero is None and found.summary['zero cell'] == 0


def test_differences_between_images():
    alpha = torch.tensor(
        [[[1.0, -1.0, 9.0]], [[1.0, -1.0, 0.0]], [[-1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]]
    )  # zero cell last
    found = WarehouseAttention(
        'w', 2, 0.0, [LayerAttention('a', alpha, torch.tensor([[1.0, 0.0, 0.0]]))]
    )
    assert found.differences(0, 1) == {'a': 0}
    assert found.differences(1, 2) == {'a': 2}
    assert found.differences(1, 3)['a'] == pytest.approx(1 / 1.5)
