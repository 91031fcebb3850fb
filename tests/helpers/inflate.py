"""A plain network's weights in a KW backbone."""

from kw_mm.warehouse import kw_layers


def inflate(backbone, plain):
    """Plain kernels into start cells, all other plain tensors by name."""
    layers = kw_layers(backbone)
    for name, module in plain.named_modules():
        if name in layers:
            layers[name].place_kernel(module.weight)
    own = backbone.state_dict()
    backbone.load_state_dict(
        {**own, **{key: value for key, value in plain.state_dict().items() if key in own}}
    )
