"""Compile Triton's kernels for a GPU that is not there, and look at what comes out.

    python tests/helpers/compiled_kernels.py

Prints one line of JSON for each kernel: registers, bytes spilled, and how often some instructions
are in the code. It replaces Triton's driver and launches nothing, so it needs a process of its own.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

CAPABILITY = 90
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


def report(name, ptx):
    """Print what the assembler says of a kernel."""
    ptxas = next(Path(triton.__file__).parent.rglob('ptxas*'))
    with tempfile.NamedTemporaryFile('w', suffix='.ptx') as file:
        file.write(ptx)
        file.flush()
        command = [str(ptxas), '-v', f'-arch=sm_{CAPABILITY}a', file.name, '-o', '/dev/null']
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = dict(
        kernel=name,
        registers=int(re.search(r'Used (\d+) registers', said)[1]),
        spilled=int(re.search(r'(\d+) bytes spill stores', said)[1]),
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
            report(self.fn.__name__, kernel.asm['ptx'])
        return kernel

    return compiled


def main():
    driver.set_active(NoDevice())
    JITFunction.run = compile_only(JITFunction.run)
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
    main()
