"""torch.compile: the same values, and at most one more compilation for other batch sizes."""

import pytest
import torch
from mmengine.utils import digit_version
from torch._dynamo.testing import CompileCounterWithBackend

from kw_mm.models import KWResNet

pytestmark = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.3'),
    reason='older compilers break the graph at every layer',
)
# Two stages, with layers of every kind: tracing takes a second for each block.
SMALL = dict(
    base_channels=8,
    stem_channels=8,
    num_stages=2,
    strides=(1, 2),
    dilations=(1, 1),
    out_indices=(1,),
)


def check(backend, batches):
    """Compile a small backbone; how many graphs its batches took."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = KWResNet(18, temperature=0.5, **SMALL).eval()
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(model, backend=counter)
    graphs = []
    for batch in batches:
        x = torch.randn(batch, 3, 64, 64)
        with torch.no_grad():
            expected, found = model(x)[0], compiled(x)[0]
        torch.testing.assert_close(
            found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
        )
        graphs.append(counter.frame_count)
    model.set_temperature(0.25)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x)[0], model(x)[0], rtol=1e-3, atol=1e-3)
    assert counter.frame_count == graphs[-1]  # the temperature is an input, no constant
    return graphs


def test_a_new_batch_size_compiles_at_most_once_more():
    graphs = check('aot_eager', [4, 2, 3])
    assert graphs[0] == 1  # no graph breaks
    assert graphs[1] - graphs[0] <= 1 and graphs[2] - graphs[1] <= 1


@pytest.mark.slow
def test_inductor():
    graphs = check('inductor', [4, 2, 3])
    assert graphs[0] == 1 and graphs[1] - graphs[0] <= 1 and graphs[2] - graphs[1] <= 1


def test_compiled_training_gives_the_same_gradients():
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = KWResNet(18, norm_eval=True, temperature=0.5, **SMALL).train()
    x, found = torch.randn(2, 3, 64, 64), []
    for run in (model, torch.compile(model, backend='aot_eager')):
        model.zero_grad()
        run(x)[0].square().mean().backward()
        found.append({key: p.grad.clone() for key, p in model.named_parameters()})
    for key, expected in found[0].items():
        torch.testing.assert_close(
            found[1][key], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()) + 1e-12
        )
