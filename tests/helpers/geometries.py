"""Convolutions that every layer with a kernel per image is tested with, by name."""

CONVS = {
    'plain': dict(kernel_size=3, padding=1),
    'stride': dict(kernel_size=3, stride=2, padding=1),
    'pointwise': dict(kernel_size=1, stride=(2, 1)),
    'dilation': dict(kernel_size=3, padding=2, dilation=2),
    'rectangle': dict(kernel_size=(1, 5), padding=(0, 2)),
    'same': dict(kernel_size=3, padding='same'),
    'groups': dict(kernel_size=3, padding=1, groups=2),
}
