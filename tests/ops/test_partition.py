import pytest
import torch

from kw_mm.warehouse import Partition, common_cell

SHAPES = [
    ((8, 6, 3, 3), (4, 3)),
    ((8, 6, 1, 1), (8, 6)),
    ((12, 1, 5, 3), (4, 1)),
    ((4, 10, 1, 1), (2, 2)),
]


@pytest.mark.parametrize('kernel_shape, cell', SHAPES)
@pytest.mark.parametrize('batch', [(), (3,)])
def test_cells_and_kernel_are_inverses(kernel_shape, cell, batch):
    partition = Partition(kernel_shape, cell)
    kernel = torch.randn(*batch, *kernel_shape)
    cells = partition.to_cells(kernel)
    assert cells.shape == (*batch, partition.num_mixtures, *cell, 1, 1)
    assert torch.equal(partition.to_kernel(cells), kernel)
    assert torch.equal(partition.to_cells(partition.to_kernel(cells)), cells)


@pytest.mark.parametrize('kernel_shape, cell', SHAPES)
def test_order_is_position_then_output_then_input(kernel_shape, cell):
    partition = Partition(kernel_shape, cell)
    kernel, i = torch.randn(kernel_shape), 0
    cells = partition.to_cells(kernel)
    for y in range(kernel_shape[2]):
        for x in range(kernel_shape[3]):
            for out in range(0, kernel_shape[0], cell[0]):
                for inp in range(0, kernel_shape[1], cell[1]):
                    assert torch.equal(
                        cells[i, ..., 0, 0], kernel[out : out + cell[0], inp : inp + cell[1], y, x]
                    )
                    i += 1
    assert i == partition.num_mixtures


def test_common_cell_is_the_common_divisor_times_the_ratio():
    shapes = [(64, 64, 3, 3), (256, 64, 1, 1), (64, 256, 1, 1), (96, 64, 1, 1)]
    assert common_cell(shapes) == (32, 64)
    assert common_cell(shapes, (1 / 2, 1 / 4)) == (16, 16)


@pytest.mark.parametrize('ratio', [(0.3, 1), (1, 2), (1, 1 / 128), (0, 1), (-1, 1)])
def test_a_ratio_that_gives_no_cell_is_refused(ratio):
    with pytest.raises(ValueError, match='cell_ratio'):
        common_cell([(64, 64, 1, 1)], ratio)


def test_cells_that_do_not_tile_are_refused():
    with pytest.raises(ValueError, match=r'\(4, 4, 1, 1\).*\(6, 8, 1, 1\)'):
        Partition((6, 8, 1, 1), (4, 4))


@pytest.mark.parametrize(
    'kernel_shape, cell, size',
    [
        ((8, 6, 3, 3), (8, 6), (3, 3)),
        ((8, 6, 4, 6), (4, 3), (2, 3)),
        ((8, 6, 3, 3), (4, 3), (1, 3)),
    ],
)
@pytest.mark.parametrize('batch', [(), (2,)])
def test_cells_may_extend_in_space(kernel_shape, cell, size, batch):
    partition = Partition(kernel_shape, cell, size)
    kernel = torch.randn(*batch, *kernel_shape)
    cells, i = partition.to_cells(kernel), 0
    assert cells.shape == (*batch, partition.num_mixtures, *cell, *size)
    assert torch.equal(partition.to_kernel(cells), kernel)
    for y in range(0, kernel_shape[2], size[0]):
        for x in range(0, kernel_shape[3], size[1]):
            for out in range(0, kernel_shape[0], cell[0]):
                for inp in range(0, kernel_shape[1], cell[1]):
                    expected = kernel[
                        ...,
                        out : out + cell[0],
                        inp : inp + cell[1],
                        y : y + size[0],
                        x : x + size[1],
                    ]
                    assert torch.equal(cells[..., i, :, :, :, :], expected)
                    i += 1
    assert i == partition.num_mixtures
