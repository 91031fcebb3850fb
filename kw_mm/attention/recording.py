"""Recording the attention of KW layers while a model runs, and sorting it by warehouse."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from torch import Tensor, nn

from ..warehouse import KWLayer, kw_layers
from ..warehouse.attention_functions import weigh_cells
from .samples import Sample
from .statistics import LayerAttention, WarehouseAttention, first_start


class AttentionRecorder:
    """Keeps the attention of KW layers, the zero cell's included, for as long as it is entered.

    What the model computes, its running statistics and its gradients stay as they are; a layer that
    is not recorded costs nothing. Values leave the device when they are taken.

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
        """Attention recorded since the last call, by layer; layers that did not run are missing.

        Returns:
            dict: Shape (inputs, m, n + 1), or (inputs, m, n) without a zero cell; on the CPU,
                float32.
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


@torch.no_grad()
def record_attention(model: nn.Module, samples: Sequence[Sample]) -> list[WarehouseAttention]:
    """Run a model on images, one by one, and gather the attention of its layers by warehouse.

    Of a layer that runs several times for an image (on regions, on several feature maps) the mean
    is kept; one that does not run for every image is left out.

    Args:
        model: An OpenMMLab classifier, detector or segmentor; it is moved to the GPU where there is
            one.
        samples: At least one.
    """
    model.eval().to(get_device())
    seen: dict[str, list[Tensor]] = {}
    with AttentionRecorder(kw_layers(model)) as recorder:
        for sample in samples:
            model.test_step(pseudo_collate([sample.data]))
            for name, alpha in recorder.take().items():
                seen.setdefault(name, []).append(alpha.mean(dim=0))
    recorded = {
        name: torch.stack(parts) for name, parts in seen.items() if len(parts) == len(samples)
    }
    return gather_attention(model, recorded)


def gather_attention(model: nn.Module, recorded: Mapping[str, Tensor]) -> list[WarehouseAttention]:
    """Sort what an :class:`AttentionRecorder` of ``kw_layers(model)`` took by warehouse.

    Warehouses of the same name in several modules have their module's name in front. Those whose
    layers did not run are left out.

    Args:
        model: The model it was recorded of.
        recorded: Attention by layer name, shape (images, m, n + 1) or (images, m, n).
    """
    owners = {
        prefix: module for prefix, module in model.named_modules() if hasattr(module, 'warehouses')
    }
    count = Counter(name for owner in owners.values() for name in owner.warehouses)
    found = []
    for prefix, owner in owners.items():
        layers = {
            '.'.join(filter(None, (prefix, key))): layer for key, layer in kw_layers(owner).items()
        }
        temperature = float(owner.warehouses.temperature)
        for name, warehouse in owner.warehouses.items():
            own = [
                LayerAttention(key, recorded[key], layer.attention.beta.detach().cpu())
                for key, layer in layers.items()
                if layer.warehouse is warehouse and key in recorded
            ]
            own.sort(key=lambda layer: first_start(layer.beta[:, : warehouse.num_cells]) or 0)
            if own:
                label = name if count[name] == 1 else f'{prefix}.{name}'
                found.append(WarehouseAttention(label, warehouse.num_cells, temperature, own))
    return found
