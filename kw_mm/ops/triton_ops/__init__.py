"""Triton kernels, each launch a ``torch.library`` operator that compilers and graphs know.

Nothing imports this package unless :mod:`kw_mm.ops.backends.triton` is asked for: it needs Triton
and torch 2.4. Sizes are run-time arguments, and only the shapes of blocks are constants. Triton
compiles anew where a number becomes 1 or divisible by 16, unless it is named in
``launching.VARYING``. Rows that a mask rules out are clamped all the same; what lies adjacent in
memory is not, since a clamped index would be loaded element by element. With
``TRITON_INTERPRET=1`` everything runs on a CPU, in float32 and float16 (the interpreter has no
bfloat16 products).
"""
