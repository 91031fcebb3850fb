"""Every number that decides how something is computed on a GPU.

NOT MEASURED: no GPU was at hand yet. These follow from counting bytes, operations and launches, and
from what others report of libraries' grouped convolutions. ``tools/benchmark.py --device cuda
--shapes`` prints, for each layer shape, what each computation takes; put what it finds here.
"""

# k x k, several images, one group: up to this many images one ordinary convolution each, above it
# patches and one matrix product. Also 1x1 in float32, where convolutions have TF32 and products
# have not.
MOST_IN_TURN = 8
# Bytes of all patches; above them images are convolved in turn, however many.
MOST_PATCHES = 4 * 2**30
# Positions of an output (H W) up to which Triton's convolution is taken, of several channels-last
# images; 0 for never.
MOST_POSITIONS_IN_TRITON = 0
# Blocks of the mixing products: rows (mixtures of all images), what is summed at a time (cells, or
# mixtures), and columns (places in a cell), fewer where an address is needed for each (cells that
# are narrower than a block) or factors are kept in registers (exact float32, without the matrix
# unit). The compiler then spills no registers, or next to none, for compute capabilities 8.0, 9.0
# and 12.0: tests/helpers/compiled_kernels.py shows it.
MIXING_ROWS, MIXING_DEPTH, MIXING_COLUMNS, FEW_COLUMNS = 64, 32, 64, 32
# Whether Triton also mixes in float32 while torch is set to multiply it exactly (its default), or
# leaves that to the product of a library.
MIXES_EXACT_FLOAT32 = False
