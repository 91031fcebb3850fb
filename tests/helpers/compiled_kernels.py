"""Compile Triton's kernels for a GPU that is not there, and look at what comes out.

    python tests/helpers/compiled_kernels.py                    # each kernel once
    python tests/helpers/compiled_kernels.py 80 kw1x-r50 2 128  # all of a network's, by batch size

The first number is the compute capability, times ten (90 unless given). Prints one line of JSON for
each kernel: registers, bytes spilled, bytes of shared memory, and how often some instructions are
in the code. It replaces Triton's driver and launches nothing, so it needs a process of its own.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

CAPABILITY = int(sys.argv[1]) if len(sys.argv) > 1 else 90
ARCHITECTURE = f'sm_{CAPABILITY}' + ('a' if CAPABILITY >= 90 else '')
INSTRUCTIONS = {
    'matrix': r'wgmma\.mma_async|mma\.sync',
    'wide loads': r'cp\.async\.\S+ \[.*?\], \[.*?\], 0x10|ld\.global\.v4',
    'loads of two bytes': r'ld\.global(?:\.L\S+)?\.b16',
}


class NoDevice:
    """What compilation asks of a driver."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0

    def get_current_target(self):
        return GPUTarget('cuda', CAPABILITY, 32)


def assembler():
    """Triton's ptxas; where there are two, the one for Blackwell is another."""
    found = sorted(Path(triton.__file__).parent.rglob('ptxas*'), key=lambda path: len(path.name))
    return str(found[-1 if CAPABILITY >= 100 else 0])


def report(name, compiled, constants):
    """Print what the assembler says of a kernel."""
    ptx = compiled.asm['ptx']
    with tempfile.NamedTemporaryFile('w', suffix='.ptx') as file:
        file.write(ptx)
        file.flush()
        command = [assembler(), '-v', f'-arch={ARCHITECTURE}', file.name, '-o', '/dev/null']
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = dict(
        kernel=name,
        registers=int(re.search(r'Used (\d+) registers', said)[1]),
        spilled=int(re.search(r'(\d+) bytes spill stores', said)[1]),
        shared=compiled.metadata.shared,
        constants=constants,
    )
    counts = {key: len(re.findall(pattern, ptx)) for key, pattern in INSTRUCTIONS.items()}
    print(json.dumps(dict(found, **counts)), flush=True)


def compile_only(run):
    """JITFunction.run without a launch, each variant reported once."""
    seen = set()

    def compiled(self, *args, grid, warmup, **options):
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        if kernel.hash not in seen:
            seen.add(kernel.hash)
            report(self.fn.__name__, kernel, options)
        return kernel

    return compiled


def of_networks(network, batches):
    """All kernels of a backbone in mixed precision: of a training step, and of a forward pass."""
    from kw_mm.analysis.bare_networks import build_bare
    from kw_mm.ops import use_backend

    kind, network = network.split('-')
    for batch in map(int, batches):
        for train in (True, False):
            net = build_bare(network, 'kw', dict(budget=float(kind[2:-1]))).train(train)
            side = 128 if batch < 16 else 32  # what is computed on the CPU
            net, x = net.to(memory_format=torch.channels_last), torch.empty(batch, 3, side, side)
            x = x.contiguous(memory_format=torch.channels_last)
            with use_backend('triton-conv'), torch.autocast('cpu', torch.bfloat16):
                found = net(x)
            if train:
                sum(one.float().sum() for one in found).backward()


def once_each():
    """Each kernel with the sizes of a layer of ResNet-50."""
    from kw_mm.ops.triton_ops import branch_kernels, conv_kernels, mixing_kernels

    half, cut = torch.bfloat16, [128, 128, 3, 3, 128, 128]
    cells = torch.empty(128, 47, 128, dtype=half).transpose(0, 1)
    alpha, kernels = torch.empty(8 * 9, 47), torch.empty(8, 128, 3, 3, 128, dtype=half)
    mixing_kernels.mix(alpha, cells, cut, half)
    mixing_kernels.mix_by_rows(kernels, cells, cut)
    mixing_kernels.add_mix_by_cells(torch.empty(128, 47, 128), alpha, kernels, cut)
    x = torch.empty(8, 128, 28, 28, dtype=half).contiguous(memory_format=torch.channels_last)
    kernels, spans = kernels.permute(0, 1, 4, 2, 3), [1, 1, 1, 1, 1, 1]
    conv_kernels.conv(x, kernels, None, spans)
    conv_kernels.conv_by_features(x, kernels, x.shape, True, spans)
    conv_kernels.conv_by_kernels(x, x, [3, 3], spans)
    norm, w1, w2 = [torch.empty(16)] * 4, torch.empty(16, 256), torch.empty(4 * 48, 16)
    pooled, beta, tau = torch.empty(8, 256), torch.empty(4, 48), torch.empty(())
    last = [True, 1e-5, 1e-3]
    found = branch_kernels.attend(pooled, w1, *norm, w2, torch.empty(192), beta, tau, *last, 47)
    alpha, logits, before, hidden, mean, variance = found
    branch_kernels.attend_backward(
        alpha, pooled, logits, before, hidden, w1, norm[0], mean, variance, w2, tau, *last
    )


if __name__ == '__main__':
    driver.set_active(NoDevice())
    JITFunction.run = compile_only(JITFunction.run)
    of_networks(sys.argv[2], sys.argv[3:]) if len(sys.argv) > 2 else once_each()
