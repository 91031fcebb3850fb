"""A whole attention branch in two launches after pooling, its backward pass in seven.

    hidden = relu(norm(W1 pooled))                          one launch, the batch in one block
    z      = W2 hidden + b2
    alpha  = tau beta + (1 - tau) z / (sum |z| + eps)       one launch, a block for a mixture's row

The norm is a batch norm: an affine map with running statistics, or with those of the batch, which a
block sees as a whole. Everything is float32. The zero cell's column is counted and left out.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..float32 import product_precision
from .launching import LEAST_BLOCK, VARYING, WARPS, blocks, launch, power_of_two

MOST_IMAGES = 256  # of a block that holds the batch
# Of a block that holds a mixture's row: 1024 spill, and need 130 KiB of shared memory.
MOST_COLUMNS = 512


@triton.jit(do_not_specialize=VARYING)
def _hidden_kernel(
    pooled,
    weight,
    scale,
    shift,
    running_mean,
    running_variance,
    before,
    hidden,
    mean,
    variance,
    batch,
    channels,
    units,
    norm_eps,
    OF_BATCH: tl.constexpr,
    IMAGES: tl.constexpr,
    UNITS: tl.constexpr,
    DEEP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    image = tl.arange(0, IMAGES)
    unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    real, used = image < batch, unit < units
    image, unit = tl.minimum(image, batch - 1), tl.minimum(unit, units - 1)
    total = tl.zeros((IMAGES, UNITS), tl.float32)
    for first in range(0, channels, DEEP):
        c = first + tl.arange(0, DEEP)
        there = c < channels
        a = tl.load(
            pooled + image[:, None] * channels + c[None, :],
            mask=real[:, None] & there[None, :],
            other=0.0,
        )
        w = tl.load(
            weight + unit[None, :] * channels + c[:, None],
            mask=there[:, None] & used[None, :],
            other=0.0,
        )
        total = tl.dot(a, w, total, input_precision=PRECISION)
    mask = real[:, None] & used[None, :]
    place = image[:, None] * units + unit[None, :]
    tl.store(before + place, total, mask=mask)
    if OF_BATCH:
        center = tl.sum(total, axis=0) / batch  # rows that are none are 0
        apart = tl.where(real[:, None], total - center[None, :], 0.0)
        spread = tl.sum(apart * apart, axis=0) / batch
        tl.store(mean + unit, center, mask=used)
        tl.store(variance + unit, spread, mask=used)
    else:
        center, spread = tl.load(running_mean + unit), tl.load(running_variance + unit)
    factor = tl.load(scale + unit) / tl.sqrt(spread + norm_eps)
    out = (total - center[None, :]) * factor[None, :] + tl.load(shift + unit)[None, :]
    tl.store(hidden + place, tl.maximum(out, 0.0), mask=mask)


@triton.jit(do_not_specialize=VARYING)
def _weights_kernel(
    hidden,
    weight,
    bias,
    beta,
    temperature,
    logits,
    alpha,
    batch,
    units,
    mixtures,
    columns,
    count,
    contrast_eps,
    IMAGES: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEEP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    mixture = tl.program_id(0)
    image = tl.program_id(1) * IMAGES + tl.arange(0, IMAGES)
    j = tl.arange(0, COLUMNS)
    real, used = image < batch, j < columns
    image, column = tl.minimum(image, batch - 1), tl.minimum(j, columns - 1)
    row = mixture * columns + column
    total = tl.zeros((IMAGES, COLUMNS), tl.float32)
    for first in range(0, units, DEEP):
        unit = first + tl.arange(0, DEEP)
        there = unit < units
        a = tl.load(
            hidden + image[:, None] * units + unit[None, :],
            mask=real[:, None] & there[None, :],
            other=0.0,
        )
        w = tl.load(
            weight + row[None, :] * units + unit[:, None],
            mask=there[:, None] & used[None, :],
            other=0.0,
        )
        total = tl.dot(a, w, total, input_precision=PRECISION)
    z = tl.where(used[None, :], total + tl.load(bias + row)[None, :], 0.0)
    mask = real[:, None] & used[None, :]
    place = (image * mixtures + mixture)[:, None]
    tl.store(logits + place * columns + column[None, :], z, mask=mask)
    tau = tl.load(temperature).to(tl.float32)
    start = tl.load(beta + row).to(tl.float32)[None, :]
    own = z / (tl.sum(tl.abs(z), axis=1) + contrast_eps)[:, None]
    tl.store(
        alpha + place * count + j[None, :],
        own + tau * (start - own),
        mask=real[:, None] & (j < count)[None, :],
    )


@triton.jit(do_not_specialize=VARYING)
def _logits_gradient_kernel(
    grad, logits, temperature, out, columns, count, contrast_eps, COLUMNS: tl.constexpr
):
    row = tl.program_id(0)
    j = tl.arange(0, COLUMNS)
    z = tl.load(logits + row * columns + tl.minimum(j, columns - 1), mask=j < columns, other=0.0)
    g = tl.load(grad + row * count + tl.minimum(j, count - 1), mask=j < count, other=0.0)
    whole = tl.sum(tl.abs(z), axis=0) + contrast_eps
    sign = tl.where(z > 0, 1.0, tl.where(z < 0, -1.0, 0.0))
    back = (g - sign * (tl.sum(g * z, axis=0) / whole)) / whole
    tau = tl.load(temperature).to(tl.float32)
    tl.store(out + row * columns + j, (1.0 - tau) * back, mask=j < columns)


@triton.jit(do_not_specialize=VARYING)
def _norm_gradient_kernel(
    grad,
    before,
    hidden,
    mean,
    variance,
    scale,
    by_before,
    by_scale,
    by_shift,
    batch,
    units,
    norm_eps,
    OF_BATCH: tl.constexpr,
    IMAGES: tl.constexpr,
    UNITS: tl.constexpr,
):
    image = tl.arange(0, IMAGES)
    unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    used = unit < units
    mask = (image < batch)[:, None] & used[None, :]
    unit = tl.minimum(unit, units - 1)
    place = tl.minimum(image, batch - 1)[:, None] * units + unit[None, :]
    rate = 1.0 / tl.sqrt(tl.load(variance + unit) + norm_eps)
    normed = (tl.load(before + place, mask=mask, other=0.0) - tl.load(mean + unit)[None, :]) * rate[
        None, :
    ]
    factor = tl.load(scale + unit)
    positive = tl.load(hidden + place, mask=mask, other=0.0) > 0
    g = tl.where(positive, tl.load(grad + place, mask=mask, other=0.0), 0.0)
    of_shift, of_scale = tl.sum(g, axis=0), tl.sum(g * normed, axis=0)
    tl.store(by_shift + unit, of_shift, mask=used)
    tl.store(by_scale + unit, of_scale, mask=used)
    if OF_BATCH:
        g -= (of_shift[None, :] + normed * of_scale[None, :]) / batch
    tl.store(by_before + place, g * (factor * rate)[None, :], mask=mask)


def run_attend(
    pooled: Tensor,
    w1: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    w2: Tensor,
    b2: Tensor,
    beta: Tensor,
    temperature: Tensor,
    of_batch: bool,
    norm_eps: float,
    contrast_eps: float,
    count: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Attention from pooled features.

    Args:
        pooled (Tensor): Shape (B, C_in).
        w1 (Tensor): Shape (hidden, C_in).
        scale, shift, mean, variance (Tensor): Of the batch norm, shape (hidden, ).
        w2, b2 (Tensor): Shape (m columns, hidden) and (m columns, ).
        beta (Tensor): Shape (m, columns); columns are n, and one more with a zero cell.
        temperature (Tensor): tau, a scalar.
        of_batch: Whether to normalise with the batch's statistics, not with those given.
        norm_eps, contrast_eps: What keeps divisors above 0.
        count: n.

    Returns:
        tuple: alpha (B, m, n), and for the backward pass the logits (B, m, columns), W1 pooled and
            the hidden units (B, hidden), and the batch's mean and (biased) variance, empty unless
            ``of_batch``.
    """
    out = _empty_attention(pooled, w1, beta, of_batch, count)
    alpha, logits, before, hidden, batch_mean, batch_variance = out
    batch, units = before.shape
    pooled = pooled.contiguous()
    unit_block = LEAST_BLOCK
    launch(
        _hidden_kernel,
        (blocks(units, unit_block),),
        pooled,
        w1,
        scale,
        shift,
        mean,
        variance,
        before,
        hidden,
        batch_mean,
        batch_variance,
        batch,
        pooled.shape[1],
        units,
        norm_eps,
        OF_BATCH=of_batch,
        IMAGES=power_of_two(batch, most=MOST_IMAGES),
        UNITS=unit_block,
        DEEP=power_of_two(pooled.shape[1], most=128 if batch <= 32 else 32),
        PRECISION=product_precision(),
    )
    mixtures, columns = beta.shape
    image_block = LEAST_BLOCK
    launch(
        _weights_kernel,
        (mixtures, blocks(batch, image_block)),
        hidden,
        w2,
        b2,
        beta,
        temperature,
        logits,
        alpha,
        batch,
        units,
        mixtures,
        columns,
        count,
        contrast_eps,
        IMAGES=image_block,
        COLUMNS=power_of_two(columns, most=MOST_COLUMNS),
        DEEP=LEAST_BLOCK,
        PRECISION=product_precision(),
    )
    return out


def _empty_attention(
    pooled: Tensor, w1: Tensor, beta: Tensor, of_batch: bool, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, units = pooled.shape[0], w1.shape[0]
    statistics = units if of_batch else 0
    return (
        pooled.new_empty((batch, beta.shape[0], count)),
        pooled.new_empty((batch, *beta.shape)),
        pooled.new_empty((batch, units)),
        pooled.new_empty((batch, units)),
        pooled.new_empty((statistics,)),
        pooled.new_empty((statistics,)),
    )


attend = torch.library.custom_op(
    'kw_mm::attend',
    run_attend,
    mutates_args=(),
    schema='(Tensor pooled, Tensor w1, Tensor scale, Tensor shift, Tensor mean, Tensor variance, '
    'Tensor w2, Tensor b2, Tensor beta, Tensor temperature, bool of_batch, float norm_eps, '
    'float contrast_eps, int count) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
)


@attend.register_fake
def _(
    pooled,
    w1,
    scale,
    shift,
    mean,
    variance,
    w2,
    b2,
    beta,
    temperature,
    of_batch,
    norm_eps,
    contrast_eps,
    count,
):
    return _empty_attention(pooled, w1, beta, of_batch, count)


def run_attend_backward(
    grad: Tensor,
    pooled: Tensor,
    logits: Tensor,
    before: Tensor,
    hidden: Tensor,
    w1: Tensor,
    scale: Tensor,
    mean: Tensor,
    variance: Tensor,
    w2: Tensor,
    temperature: Tensor,
    of_batch: bool,
    norm_eps: float,
    contrast_eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`attend`: of pooled, w1, scale, shift, w2 and b2."""
    batch, mixtures, columns = logits.shape
    units = before.shape[1]
    by_logits = torch.empty_like(logits)
    grad = grad.contiguous()
    launch(
        _logits_gradient_kernel,
        (batch * mixtures,),
        grad,
        logits,
        temperature,
        by_logits,
        columns,
        grad.shape[2],
        contrast_eps,
        COLUMNS=power_of_two(columns, most=MOST_COLUMNS),
        num_warps=1 if columns <= 256 else WARPS,
    )
    rows = by_logits.flatten(1)  # (B, m columns)
    by_hidden, by_w2, by_b2 = rows @ w2, rows.t() @ hidden, rows.sum(dim=0)
    by_before = torch.empty_like(before)
    by_scale, by_shift = torch.empty_like(scale), torch.empty_like(scale)
    launch(
        _norm_gradient_kernel,
        (blocks(units, LEAST_BLOCK),),
        by_hidden,
        before,
        hidden,
        mean,
        variance,
        scale,
        by_before,
        by_scale,
        by_shift,
        batch,
        units,
        norm_eps,
        OF_BATCH=of_batch,
        IMAGES=power_of_two(batch, most=MOST_IMAGES),
        UNITS=LEAST_BLOCK,
    )
    return by_before @ w1, by_before.t() @ pooled, by_scale, by_shift, by_w2, by_b2


attend_backward = torch.library.custom_op(
    'kw_mm::attend_backward',
    run_attend_backward,
    mutates_args=(),
    schema='(Tensor grad, Tensor pooled, Tensor logits, Tensor before, Tensor hidden, Tensor w1, '
    'Tensor scale, Tensor mean, Tensor variance, Tensor w2, Tensor temperature, bool of_batch, '
    'float norm_eps, float contrast_eps) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
)


@attend_backward.register_fake
def _(
    grad,
    pooled,
    logits,
    before,
    hidden,
    w1,
    scale,
    mean,
    variance,
    w2,
    temperature,
    of_batch,
    norm_eps,
    contrast_eps,
):
    like = (pooled, w1, scale, scale, w2)
    empty = [torch.empty_like(one, memory_format=torch.contiguous_format) for one in like]
    return *empty, w2.new_empty((w2.shape[0],))


def _remember(ctx, inputs, output) -> None:
    pooled, w1, scale, _, mean, variance, w2, _, _, temperature, *options = inputs
    ctx.of_batch, ctx.norm_eps, ctx.contrast_eps, _ = options
    _, logits, before, hidden, batch_mean, batch_variance = output
    if ctx.of_batch:
        mean, variance = batch_mean, batch_variance
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(
        pooled, logits, before, hidden, w1, scale, mean, variance, w2, temperature
    )


def _gradients(ctx, grad: Tensor | None, *others: None):
    return _gradients_by(attend_backward, ctx, grad)


def _gradients_by(backward, ctx, grad: Tensor | None):
    if grad is None:
        return (None,) * 14
    by_pooled, by_w1, by_scale, by_shift, by_w2, by_b2 = backward(
        grad, *ctx.saved_tensors, ctx.of_batch, ctx.norm_eps, ctx.contrast_eps
    )
    return by_pooled, by_w1, by_scale, by_shift, None, None, by_w2, by_b2, *(None,) * 6


attend.register_autograd(_gradients, setup_context=_remember)


class AttendEagerly(torch.autograd.Function):
    """:func:`attend` without the dispatcher, whose operators cost tens of microseconds a call."""

    @staticmethod
    def forward(ctx, *inputs):
        output = run_attend(*inputs)
        _remember(ctx, inputs, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor | None, *others: None):
        return _gradients_by(run_attend_backward, ctx, grad)
