"""Listening to the attention branches of KW layers while a model runs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..warehouse import KWLayer
from ..warehouse.attention_functions import weigh_cells


class AttentionRecorder:
    """Keeps the attention of KW layers, the zero cell's included, for as long as it is entered.

    What the model computes, its running statistics and its gradients stay as they are; a layer that
    nobody listens to costs nothing. Values leave the device when they are taken.

    Args:
        layers: KW layers by name, see :func:`kw_mm.warehouse.kw_layers`.

    Example:
        >>> with AttentionRecorder(kw_layers(model)) as recorder:
        ...     model(images)
        >>> alpha = recorder.take()['layer1.0.conv1']                   # (images, m, n + 1)
    """

    def __init__(self, layers: Mapping[str, KWLayer]):
        self.layers = layers
        self._alpha: dict[str, list[Tensor]] = {}
        self._hidden: dict[str, Tensor] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> 'AttentionRecorder':
        for name, layer in self.layers.items():
            self._listen(name, layer.attention)
        return self

    def __exit__(self, *exception) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._hidden.clear()

    def take(self) -> dict[str, Tensor]:
        """Attention seen since the last call, shape (inputs, m, n + 1), or (inputs, m, n) without a zero cell.

        On the CPU, float32. Layers that did not run are missing.
        """
        taken = {name: torch.cat(parts).float().cpu() for name, parts in self._alpha.items()}
        self._alpha.clear()
        return taken

    def _listen(self, name: str, attention: nn.Module) -> None:

        def keep_hidden(module, inputs, output):
            self._hidden[name] = output.detach()

        @torch.no_grad()
        def keep_alpha(module, inputs, output):
            logits = module.logits(self._hidden.pop(name).relu())
            alpha = weigh_cells(logits, module.beta, inputs[1], module.function)
            self._alpha.setdefault(name, []).append(alpha)

        # the branch's own answer has lost the zero cell; its norm is not run again, which would
        # move its statistics
        self._handles += [
            attention.norm1.register_forward_hook(keep_hidden),
            attention.register_forward_hook(keep_alpha),
        ]
