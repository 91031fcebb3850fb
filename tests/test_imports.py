"""What importing needs, and what it leaves alone."""

import subprocess
import sys
from importlib import import_module

from mmengine.registry import HOOKS, METRICS, MODELS, TRANSFORMS
from run_tools import ROOT

import kw_mm
from kw_mm.registration import CONVS, LAZY, UNBUILDABLE

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in BLOCKED:
            raise ImportError(f'{name} is blocked')

BLOCKED = {'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'cv2', 'matplotlib', 'shapely', 'rich'}
sys.meta_path.insert(0, Blocked())
"""
TORCH_ONLY = """
import torch
from torch import nn
from kw_mm.ops import conv2d_per_image, mixed_conv2d, reference_path
from kw_mm.optimizing import optimize_for_inference
from kw_mm.warehouse import apply_kernel_warehouse, kw_layers

net = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1)).double()
net = apply_kernel_warehouse(net, {'all': ['0', '2']}, attention_norm='LN')
x = torch.randn(2, 8, 6, 6, dtype=torch.double)
fast = net(x)
with reference_path():
    assert torch.allclose(net(x), fast)
fast.square().mean().backward()
assert all(p.grad is not None for p in net.parameters()) and len(kw_layers(net)) == 2
kernels = torch.randn(2, 4, 8, 3, 3, dtype=torch.double)
assert conv2d_per_image(x, kernels, padding=1).shape == (2, 4, 6, 6)
net = nn.Sequential(net, nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)).double().eval()
before = net(x)
assert torch.allclose(optimize_for_inference(net)(x), before)
try:
    import mmengine
except ImportError:
    print('fine')
"""


def run(code):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


def test_operators_and_warehouses_work_with_torch_only():
    assert run(BLOCK + TORCH_ONLY) == ['fine']


def test_importing_registers_everything_and_draws_nothing():
    names = run(
        'import sys, kw_mm\n'
        'from mmengine.registry import HOOKS, METRICS, MODELS, TRANSFORMS\n'
        "print('matplotlib' in sys.modules, 'shapely' in sys.modules, 'mmdet' in sys.modules)\n"
        'for registry in (HOOKS, METRICS, MODELS, TRANSFORMS): print(*registry.module_dict)'
    )
    assert names[:3] == ['False'] * 3
    expected = {name for _, types in LAZY.values() for name in types}
    hooks = {'AttentionTemperatureHook', 'EpochSeedHook', 'SafeCheckpointHook'}
    assert (expected | hooks | {'AttentionVisualizationHook'}) <= set(names)


def test_the_table_of_lazy_names_is_what_the_modules_register():
    for module in LAZY:
        import_module(module)
    found = {
        name
        for registry in (METRICS, MODELS, TRANSFORMS)
        for name, kind in registry.module_dict.items()
        if kind.__module__.startswith('kw_mm.')
    }
    found |= {name for name, kind in HOOKS.module_dict.items() if kind.__module__ in LAZY}
    assert found - {conv.__name__ for conv in CONVS} - set(UNBUILDABLE) == {
        name for _, names in LAZY.values() for name in names
    }
    for registry, names in LAZY.values():
        assert all(isinstance(registry.get(name), type) for name in names)


def test_unknown_parts_are_no_attributes():
    assert not hasattr(kw_mm, 'engine') and kw_mm.ops.conv2d_per_image
