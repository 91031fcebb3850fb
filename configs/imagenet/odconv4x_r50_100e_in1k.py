# ResNet-50 with ODConv 4x, 90.67 M. Reported by its repository: top-1 78.50 %.
_base_ = './odconv1x_r50_100e_in1k.py'
model = dict(backbone=dict(conv=dict(num_kernels=4)))  # no dropout, unlike ResNet-18's
