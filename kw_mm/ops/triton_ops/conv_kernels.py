"""Convolution in which every image has its own kernel, as an implicit matrix product.

The image is an axis of the grid, so that one launch serves the batch, and no features are folded,
copied or taken apart. Features and kernels are read in any strides; best are adjacent channels.
Gradients of features are the same product, looking the other way; those of kernels are a product
over positions, split where there are few of them to make. One group only.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..float32 import product_precision
from .launching import VARYING, blocks, launch, power_of_two, splits_for, summed

# Of a block. By what the compiler reports for sm_90 in bfloat16, nothing is spilled.
POSITIONS, CHANNELS, DEEP_CHANNELS = 128, 128, 32


@triton.jit
def _seen(place, offset, step, size, BACKWARD: tl.constexpr):
    """Which row (or column) a row sees through one of the kernel's, and whether it exists.

    Forward from output to input; backward from input to the outputs that have seen it.
    """
    if BACKWARD:
        whole = place - offset
        source = whole // step
        there = (whole >= 0) & (whole % step == 0) & (source < size)
    else:
        source = place * step + offset
        there = (source >= 0) & (source < size)
    return tl.minimum(tl.maximum(source, 0), size - 1), there


@triton.jit(do_not_specialize=VARYING)
def _conv_kernel(
    x,
    kernels,
    bias,
    out,
    from_channels,
    to_channels,
    height,
    width,
    out_height,
    out_width,
    kernel_height,
    kernel_width,
    step_y,
    step_x,
    pad_y,
    pad_x,
    dilation_y,
    dilation_x,
    x_b,
    x_c,
    x_h,
    x_w,
    k_b,
    k_to,
    k_from,
    k_h,
    k_w,
    out_b,
    out_c,
    out_h,
    out_w,
    BACKWARD: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PLACES: tl.constexpr,
    TO: tl.constexpr,
    FROM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    to_blocks = tl.cdiv(to_channels, TO)
    place = (tl.program_id(0) // to_blocks) * PLACES + tl.arange(0, PLACES)
    to = (tl.program_id(0) % to_blocks) * TO + tl.arange(0, TO)
    real, used = place < out_height * out_width, to < to_channels
    place = tl.minimum(place, out_height * out_width - 1)
    y, across = place // out_width, place % out_width
    features = x + image * x_b
    weights = kernels + image * k_b + to[None, :] * k_to
    total = tl.zeros((PLACES, TO), tl.float32)
    for tap in range(0, kernel_height * kernel_width):
        ky = tap // kernel_width
        kx = tap % kernel_width
        row, row_there = _seen(y, ky * dilation_y - pad_y, step_y, height, BACKWARD)
        column, column_there = _seen(across, kx * dilation_x - pad_x, step_x, width, BACKWARD)
        sees = real & row_there & column_there
        pixels = features + (row * x_h + column * x_w)[:, None]
        values = weights + ky * k_h + kx * k_w
        for first in range(0, from_channels, FROM):
            c = first + tl.arange(0, FROM)
            there = c < from_channels
            a = tl.load(pixels + (c * x_c)[None, :], mask=sees[:, None] & there[None, :], other=0.0)
            b = tl.load(
                values + (c * k_from)[:, None], mask=there[:, None] & used[None, :], other=0.0
            )
            total = tl.dot(a, b, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + to, mask=used, other=0.0).to(tl.float32)[None, :]
    tl.store(
        out + image * out_b + (y * out_h + across * out_w)[:, None] + (to * out_c)[None, :],
        total.to(out.dtype.element_ty),
        mask=real[:, None] & used[None, :],
    )


@triton.jit(do_not_specialize=VARYING)
def _kernel_gradient_kernel(
    grad,
    x,
    out,
    out_channels,
    in_channels,
    height,
    width,
    out_height,
    out_width,
    kernel_height,
    kernel_width,
    step_y,
    step_x,
    pad_y,
    pad_x,
    dilation_y,
    dilation_x,
    grad_b,
    grad_c,
    grad_h,
    grad_w,
    x_b,
    x_c,
    x_h,
    x_w,
    places_each,
    batch,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    PLACES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    image, part = tl.program_id(1).to(tl.int64), tl.program_id(2)
    in_blocks = tl.cdiv(in_channels, IN)
    out_blocks = tl.cdiv(out_channels, OUT)
    number = tl.program_id(0)
    i = (number % in_blocks) * IN + tl.arange(0, IN)
    o = ((number // in_blocks) % out_blocks) * OUT + tl.arange(0, OUT)
    tap = number // (in_blocks * out_blocks)
    ky = tap // kernel_width
    kx = tap % kernel_width
    o_used, i_used = o < out_channels, i < in_channels
    gradients = grad + image * grad_b + (o * grad_c)[:, None]
    features = x + image * x_b + (i * x_c)[None, :]
    last = tl.minimum((part + 1) * places_each, out_height * out_width)
    total = tl.zeros((OUT, IN), tl.float32)
    for first in range(part * places_each, last, PLACES):
        place = first + tl.arange(0, PLACES)
        real = place < last
        place = tl.minimum(place, out_height * out_width - 1)
        y, across = place // out_width, place % out_width
        row, row_there = _seen(y, ky * dilation_y - pad_y, step_y, height, False)
        column, column_there = _seen(across, kx * dilation_x - pad_x, step_x, width, False)
        sees = real & row_there & column_there
        g = tl.load(
            gradients + (y * grad_h + across * grad_w)[None, :],
            mask=o_used[:, None] & real[None, :],
            other=0.0,
        )
        a = tl.load(
            features + (row * x_h + column * x_w)[:, None],
            mask=sees[:, None] & i_used[None, :],
            other=0.0,
        )
        total = tl.dot(g, a, total, input_precision=PRECISION)
    # (S, B, C_out, kh, kw, C_in)
    area = kernel_height * kernel_width
    begin = (part * batch + image) * out_channels * area * in_channels
    tl.store(
        out + begin + ((o * area + tap) * in_channels)[:, None] + i[None, :],
        total.to(out.dtype.element_ty),
        mask=o_used[:, None] & i_used[None, :],
    )


def _most_channels(dtype: torch.dtype) -> int:
    return CHANNELS // 2 if dtype == torch.float32 else CHANNELS


def _block_shape(places: int, to: int, deep: int, dtype: torch.dtype) -> dict[str, int]:
    return dict(
        PLACES=power_of_two(places, most=POSITIONS),
        TO=power_of_two(to, most=_most_channels(dtype)),
        FROM=power_of_two(deep, most=DEEP_CHANNELS),
    )


def _order_of(x: Tensor) -> torch.memory_format:
    """The memory order of a result: channels-last where the features are."""
    last = x.stride(1) == 1 and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _empty_output(x: Tensor, kernels: Tensor, spans: Sequence[int]) -> Tensor:
    down, right, pad_y, pad_x, dilation_y, dilation_x = spans
    height = (x.shape[2] + 2 * pad_y - dilation_y * (kernels.shape[3] - 1) - 1) // down + 1
    width = (x.shape[3] + 2 * pad_x - dilation_x * (kernels.shape[4] - 1) - 1) // right + 1
    size = (x.shape[0], kernels.shape[1], height, width)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_order_of(x))


def run_conv(x: Tensor, kernels: Tensor, bias: Tensor | None, spans: Sequence[int]) -> Tensor:
    """Convolve image b with kernel b.

    Args:
        x (Tensor): Shape (B, C_in, H, W).
        kernels (Tensor): Shape (B, C_out, C_in, kh, kw), of the same dtype.
        bias (Tensor, optional): Shape (C_out, ).
        spans: Strides, padding and dilation, (vertical, horizontal) of each.

    Returns:
        Tensor: Shape (B, C_out, H_out, W_out), channels-last where ``x`` is.
    """
    out = _empty_output(x, kernels, spans)
    k_b, k_o, k_i, k_h, k_w = kernels.stride()
    block = _block_shape(out.shape[2] * out.shape[3], out.shape[1], x.shape[1], x.dtype)
    programs = blocks(out.shape[2] * out.shape[3], block['PLACES']) * blocks(
        out.shape[1], block['TO']
    )
    launch(
        _conv_kernel,
        (programs, len(x)),
        x,
        kernels,
        bias if bias is not None else x,
        out,
        x.shape[1],
        out.shape[1],
        *x.shape[2:],
        *out.shape[2:],
        *kernels.shape[3:],
        *spans,
        *x.stride(),
        k_b,
        k_o,
        k_i,
        k_h,
        k_w,
        *out.stride(),
        BACKWARD=False,
        HAS_BIAS=bias is not None,
        **block,
        PRECISION=product_precision(),
    )
    return out


conv = torch.library.custom_op(
    'kw_mm::conv',
    run_conv,
    mutates_args=(),
    schema='(Tensor x, Tensor kernels, Tensor? bias, int[] spans) -> Tensor',
)


@conv.register_fake
def _(x: Tensor, kernels: Tensor, bias: Tensor | None, spans: Sequence[int]) -> Tensor:
    return _empty_output(x, kernels, spans)


def _empty_features(grad: Tensor, size: Sequence[int], channels_last: bool) -> Tensor:
    order = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(tuple(size), dtype=grad.dtype, device=grad.device, memory_format=order)


def run_conv_by_features(
    grad: Tensor, kernels: Tensor, size: Sequence[int], channels_last: bool, spans: Sequence[int]
) -> Tensor:
    """The features' gradient.

    Args:
        grad (Tensor): The result's, shape (B, C_out, H_out, W_out).
        kernels, spans: As in :func:`conv`.
        size: (B, C_in, H, W).
        channels_last: The order of the result.
    """
    out = _empty_features(grad, size, channels_last)
    k_b, k_o, k_i, k_h, k_w = kernels.stride()
    block = _block_shape(out.shape[2] * out.shape[3], out.shape[1], grad.shape[1], grad.dtype)
    programs = blocks(out.shape[2] * out.shape[3], block['PLACES']) * blocks(
        out.shape[1], block['TO']
    )
    launch(
        _conv_kernel,
        (programs, len(grad)),
        grad,
        kernels,
        grad,
        out,
        grad.shape[1],
        out.shape[1],
        *grad.shape[2:],
        *out.shape[2:],
        *kernels.shape[3:],
        *spans,
        *grad.stride(),
        k_b,
        k_i,
        k_o,
        k_h,
        k_w,
        *out.stride(),
        BACKWARD=True,
        HAS_BIAS=False,
        **block,
        PRECISION=product_precision(),
    )
    return out


conv_by_features = torch.library.custom_op(
    'kw_mm::conv_by_features',
    run_conv_by_features,
    mutates_args=(),
    schema='(Tensor grad, Tensor kernels, SymInt[] size, bool channels_last, int[] spans)'
    ' -> Tensor',
)


@conv_by_features.register_fake
def _(
    grad: Tensor, kernels: Tensor, size: Sequence[int], channels_last: bool, spans: Sequence[int]
) -> Tensor:
    return _empty_features(grad, size, channels_last)


def run_conv_by_kernels(
    grad: Tensor, x: Tensor, size: Sequence[int], spans: Sequence[int]
) -> Tensor:
    """The kernels' gradient, shape (B, C_out, kh, kw, C_in), contiguous.

    Args:
        grad (Tensor): The result's, shape (B, C_out, H_out, W_out).
        x, spans: As in :func:`conv`.
        size: (kh, kw).
    """
    batch, out_channels, out_height, out_width = grad.shape
    in_channels, positions = x.shape[1], out_height * out_width
    block = dict(
        OUT=power_of_two(out_channels, most=_most_channels(grad.dtype)),
        IN=power_of_two(in_channels, most=_most_channels(grad.dtype)),
        PLACES=power_of_two(positions, most=DEEP_CHANNELS),
    )
    programs = blocks(out_channels, block['OUT']) * blocks(in_channels, block['IN'])
    programs *= size[0] * size[1]
    splits = splits_for(programs * batch, blocks(positions, block['PLACES']), grad.device)
    each = blocks(blocks(positions, splits), block['PLACES']) * block['PLACES']
    splits = blocks(positions, each)
    dtype = grad.dtype if splits == 1 else torch.float32
    parts = grad.new_empty((splits, batch, out_channels, *size, in_channels), dtype=dtype)
    launch(
        _kernel_gradient_kernel,
        (programs, batch, splits),
        grad,
        x,
        parts,
        out_channels,
        in_channels,
        *x.shape[2:],
        out_height,
        out_width,
        *size,
        *spans,
        *grad.stride(),
        *x.stride(),
        each,
        batch,
        **block,
        PRECISION=product_precision(),
    )
    return summed(parts, grad.dtype)


conv_by_kernels = torch.library.custom_op(
    'kw_mm::conv_by_kernels',
    run_conv_by_kernels,
    mutates_args=(),
    schema='(Tensor grad, Tensor x, int[] size, int[] spans) -> Tensor',
)


@conv_by_kernels.register_fake
def _(grad: Tensor, x: Tensor, size: Sequence[int], spans: Sequence[int]) -> Tensor:
    return grad.new_empty((grad.shape[0], grad.shape[1], *size, x.shape[1]))


def _remember(ctx, inputs, output) -> None:
    x, kernels, bias, ctx.spans = inputs
    ctx.of_bias = None if bias is None else bias.dtype
    ctx.save_for_backward(x, kernels)


def _gradients(ctx, grad: Tensor):
    return _gradients_by(conv_by_features, conv_by_kernels, ctx, grad)


def _gradients_by(by_features, by_weights, ctx, grad: Tensor):
    x, kernels = ctx.saved_tensors
    of_x, of_kernels, of_bias = ctx.needs_input_grad[:3]
    by_x = by_kernels = by_bias = None
    if of_x:
        last = _order_of(x) == torch.channels_last
        by_x = by_features(grad, kernels, x.shape, last, ctx.spans)
    if of_kernels:
        size = [int(side) for side in kernels.shape[3:]]
        by_kernels = by_weights(grad, x, size, ctx.spans).permute(0, 1, 4, 2, 3)
    if ctx.of_bias is not None and of_bias:
        by_bias = grad.sum(dim=(0, 2, 3)).to(ctx.of_bias)
    return by_x, by_kernels, by_bias, None


conv.register_autograd(_gradients, setup_context=_remember)


class ConvolveEagerly(torch.autograd.Function):
    """:func:`conv` without the dispatcher."""

    @staticmethod
    def forward(ctx, *inputs):
        output = run_conv(*inputs)
        _remember(ctx, inputs, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        return _gradients_by(run_conv_by_features, run_conv_by_kernels, ctx, grad)
