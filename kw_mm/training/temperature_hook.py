"""Anneals a temperature: KernelWarehouse's tau (paper, Sec. 3.4) or that of a softmax."""

from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ..protocols import TemperatureControlled


@HOOKS.register_module()
class AttentionTemperatureHook(Hook):
    """Move the temperature linearly from ``begin`` to ``end``, one step per iteration.

    In the t-th iteration, counted from 1, tau = begin + (end - begin) min(1, t / T): with the
    defaults the published max(0, (T - t) / T). Iterations are micro-batches, also under gradient
    accumulation. The value follows from t only, so resumed runs continue as if never stopped. It
    is logged as ``temperature``. The model averaged by mmengine's ``EMAHook`` has the same
    temperature, never an average of past ones.

    Softmax temperatures (DY-Conv, ODConv) go from 30 to 1 over the first 10 epochs.

    Args:
        duration: N epochs (or iterations) over which the temperature moves.
        begin: Value before the first iteration.
        end: Value from the T-th iteration on.
        by_epoch: Whether ``duration`` counts epochs; T is then N times the length of the training
            dataloader.

    Raises:
        ValueError: ``duration`` is not positive, or (when training starts) the model has no layer
            with a temperature, or ``begin`` or ``end`` is none that its layers can have.

    Example:
        >>> # ImageNet, 300 epochs
        >>> custom_hooks = [dict(type='AttentionTemperatureHook', duration=20)]
        >>> custom_hooks = [dict(type='AttentionTemperatureHook', duration=500, by_epoch=False)]
        >>> # DY-Conv, ODConv
        >>> custom_hooks = [dict(type='AttentionTemperatureHook', duration=10, begin=30, end=1)]
    """

    def __init__(
        self, duration: float, begin: float = 1.0, end: float = 0.0, by_epoch: bool = True
    ):
        if not duration > 0:
            raise ValueError(
                f'duration={duration!r} must be positive; without annealing leave the hook out'
            )
        self.duration, self.begin, self.end, self.by_epoch = duration, begin, end, by_epoch
        self._modules: list[TemperatureControlled] = []

    def before_train(self, runner: Runner) -> None:
        """Find the modules that have a temperature."""
        self._modules = list(outermost_with_temperature(runner.model))
        if not self._modules:
            raise ValueError(
                'AttentionTemperatureHook found no layer with an attention temperature in the '
                "model; use a backbone such as type='KWResNet', or leave the hook out"
            )
        averaged = [hook.ema_model for hook in runner.hooks if hasattr(hook, 'ema_model')]
        self._modules += [
            module for model in averaged for module in outermost_with_temperature(model)
        ]
        for module in self._modules:  # values that they cannot have fail now, not after epochs
            module.set_temperature(self.end)
            module.set_temperature(self.begin)
        unit = 'epochs' if self.by_epoch else 'iterations'
        runner.logger.info(
            f'Temperature moves from {self.begin} to {self.end} over {self.duration} {unit}, '
            f'{self.steps(runner):g} iterations'
        )
        last = self.value(runner.max_iters, self.steps(runner))
        if runner.max_iters < self.steps(runner):
            runner.logger.warning(
                f'the run ends at temperature {last:.3g}, not {self.end:g}: annealing takes '
                f'{self.steps(runner):g} iterations, and the run has {runner.max_iters}; '
                'train longer, or set a smaller duration in AttentionTemperatureHook'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Set this iteration's temperature."""
        value = self.value(runner.iter + 1, self.steps(runner))
        for module in self._modules:
            module.set_temperature(value)
        runner.message_hub.update_scalar('train/temperature', value)

    def steps(self, runner: Runner) -> float:
        """T, in iterations."""
        return self.duration * len(runner.train_dataloader) if self.by_epoch else self.duration

    def value(self, t: int, steps: float) -> float:
        """Temperature of iteration t, counted from 1."""
        return self.begin + (self.end - self.begin) * min(1.0, t / steps)


def temperatures(model: nn.Module) -> list[float]:
    """Attention temperatures in a model, ascending, without repetitions."""
    found = (getattr(module, 'temperature', None) for module in outermost_with_temperature(model))
    return sorted({round(float(value), 6) for value in found if value is not None})


def outermost_with_temperature(module: nn.Module) -> Iterator[TemperatureControlled]:
    """Modules with a temperature that are in no other such module, which sets theirs."""
    if isinstance(module, TemperatureControlled):
        yield module
        return
    for child in module.children():
        yield from outermost_with_temperature(child)
