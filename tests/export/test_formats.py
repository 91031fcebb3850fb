"""Files of every format compute what PyTorch does, on batches of 1, 2, 3 and two sizes."""

import copy
import json
from inspect import signature

import pytest
import torch
from small_networks import FAMILIES, OTHERS, SHORT, build
from torch import nn

from kw_mm.compared import FDConv2d
from kw_mm.errors import UserError
from kw_mm.export import BackbonePart, compare, make_static, runner, write
from kw_mm.warehouse import apply_kernel_warehouse

MAKES_PROGRAMS = pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_exporting'), reason='needs torch 2.7'
)
# Five KW layers, one of them 1 x 1 with stride 2: exporters take seconds for each.
ONE_STAGE = dict(SHORT, num_stages=1, strides=(2,), dilations=(1,), out_indices=(0,))
FEW = ('mobilenet', 'odconv', 'ablations')
EXAMPLE, SIZES = (2, 3, 64, 96), [(64, 96), (97, 71)]


def written(network, path, to):
    part = BackbonePart(network)
    images = torch.randn(EXAMPLE, dtype=next(part.parameters()).dtype)
    write(part, images, str(path), to, names=part.names(part(images)), about=dict(outputs='x'))
    return part


def check(network, path, to):
    """ONNX in float32, the rest in float64, where only an error shows.

    onnxruntime has float32 convolutions only; random networks that magnify PyTorch's own rounding
    magnify its, too.
    """
    part = written(network if to == 'onnx' else network.double(), path, to)
    rows = compare(part, runner(str(path), to), SIZES)
    assert [(row.batch, row.size) for row in rows] == [
        (batch, size) for size in SIZES for batch in (1, 2, 3)
    ]
    limits = (
        [max(1e-4, 5 * row.deviation) for row in compare(part, exactly(part), SIZES)]
        if to == 'onnx'
        else [1e-9] * 6
    )
    assert all(row.deviation < limit for row, limit in zip(rows, limits)), (rows, limits)


def exactly(part):
    """A part in float64."""
    exact = copy.deepcopy(part).double()
    return lambda images: [output.float() for output in exact(images.double())]


def onnx_graph(path):
    return pytest.importorskip('onnx').load(path).graph


def groups(graph):
    """``groups`` of all convolutions."""
    return [
        a.i
        for node in graph.node
        if node.op_type == 'Conv'
        for a in node.attribute
        if a.name == 'group'
    ]


@pytest.mark.parametrize(
    'name',
    [
        name if name in FEW else pytest.param(name, marks=pytest.mark.slow)
        for name in (*FAMILIES, *OTHERS)
    ],
)
def test_torchscript(name, tmp_path):
    check(build({**FAMILIES, **OTHERS}[name]), tmp_path / 'x.pt', 'torchscript')


@MAKES_PROGRAMS
def test_onnx_of_a_short_network(tmp_path):
    pytest.importorskip('onnxruntime')
    check(build(dict(type='KWResNet', **ONE_STAGE)), tmp_path / 'x.onnx', 'onnx')
    graph = onnx_graph(tmp_path / 'x.onnx')
    assert [
        dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim
    ] == ['batch', 3, 'height', 'width']
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == 'batch'
    assert set(groups(graph)) <= {1}


class FDConvs(torch.nn.Module):
    """A 1x1 and a 3x3 layer in which nothing is neutral."""

    def __init__(self):
        super().__init__()
        options = dict(kernel_num=5, min_channels=1)
        self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.convs = torch.nn.Sequential(
            FDConv2d(8, 10, 3, stride=2, padding=1, **options), FDConv2d(10, 6, 1, **options)
        )
        for name, parameter in self.convs.named_parameters():
            if not name.endswith('dft_weight'):
                torch.nn.init.normal_(parameter, std=0.1)

    def forward(self, x):
        return (self.convs(self.stem(x)),)


@pytest.mark.parametrize(
    'to',
    [
        'torchscript',
        pytest.param('exported-program', marks=[MAKES_PROGRAMS, pytest.mark.slow]),
        pytest.param('onnx', marks=[MAKES_PROGRAMS, pytest.mark.slow]),
    ],
)
def test_fdconv(to, tmp_path):
    """Its Fourier transforms, of kernels and of features of any size."""
    if to == 'onnx':
        pytest.importorskip('onnxruntime')
    check(FDConvs().eval().requires_grad_(False), tmp_path / 'x', to)


@pytest.mark.parametrize('sizes', [(1, 1), (3, 1), (1, 3, 1)])
def test_the_older_onnx_exporter_keeps_batch_and_size_free(sizes, tmp_path):
    """torch.onnx.export(dynamo=False), which other projects call, of KW layers in a row."""
    onnxruntime = pytest.importorskip('onnxruntime')
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Conv2d(8, 8, size, padding=size // 2) for size in sizes))
    net = apply_kernel_warehouse(net, {'all': [str(i) for i in range(len(sizes))]}).eval()
    path, free = str(tmp_path / 'x.onnx'), {0: 'batch', 2: 'height', 3: 'width'}
    options = {'dynamo': False} if 'dynamo' in signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        net,
        (torch.randn(2, 8, 16, 20),),
        path,
        input_names=['x'],
        output_names=['y'],
        dynamic_axes=dict(x=free, y=free),
        opset_version=17,
        **options,
    )
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    for shape in ((2, 8, 16, 20), (3, 8, 12, 20), (1, 8, 25, 7)):
        x = torch.randn(shape)
        (found,) = session.run(None, dict(x=x.numpy()))
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), net(x), rtol=1e-4, atol=1e-4)


@MAKES_PROGRAMS
def test_exported_program_of_a_short_network(tmp_path):
    check(build(dict(type='KWResNet', **ONE_STAGE)), tmp_path / 'x.pt2', 'exported-program')


@MAKES_PROGRAMS
@pytest.mark.slow
@pytest.mark.parametrize('to', ['onnx', 'exported-program'])
@pytest.mark.parametrize('name', FAMILIES)
def test_whole_networks(name, to, tmp_path):
    if to == 'onnx':
        pytest.importorskip('onnxruntime')
    check(build(FAMILIES[name]), tmp_path / f'x.{to}.pt2', to)
    if to == 'onnx':
        assert set(groups(onnx_graph(tmp_path / f'x.{to}.pt2'))) <= {1}


@MAKES_PROGRAMS
def test_at_temperature_1_a_plain_network_is_written(tmp_path):
    pytest.importorskip('onnxruntime')
    network = build(dict(type='KWResNet', **SHORT), temperature=1)
    plain = build(
        dict(type='StaticResNet', **{key: value for key, value in SHORT.items() if key != 'budget'})
    )
    expected = BackbonePart(network)(images := torch.randn(EXAMPLE))
    assert make_static(network) == 9
    for name, model in (('kw', network), ('plain', plain)):
        written(model, tmp_path / name, 'onnx')
    graph, of_plain = onnx_graph(tmp_path / 'kw'), onnx_graph(tmp_path / 'plain')
    assert graph.output[1].type.tensor_type.shape.dim[0].dim_param == 'batch'
    assert [node.op_type for node in graph.node] == [node.op_type for node in of_plain.node]
    assert [tensor.dims for tensor in graph.initializer] == [
        tensor.dims for tensor in of_plain.initializer
    ]
    for out, reference in zip(runner(str(tmp_path / 'kw'), 'onnx')(images), expected):
        torch.testing.assert_close(out, reference, rtol=0, atol=1e-5 * float(reference.abs().max()))


def test_what_is_known_about_the_images_goes_with_the_file(tmp_path):
    written(build(dict(type='KWResNet', **SHORT), temperature=1), tmp_path / 'x.pt', 'torchscript')
    about = {'kw_mm.json': ''}
    torch.jit.load(tmp_path / 'x.pt', _extra_files=about)
    assert json.loads(about['kw_mm.json']) == dict(outputs='x')


def test_nan_in_any_output_does_not_pass():
    one = torch.ones(2)
    for bad in range(2):
        outputs = [torch.full((2,), float('nan')) if i == bad else one for i in range(2)]
        part = BackbonePart(torch.nn.Conv2d(3, 1, 1))
        part.backbone.forward = lambda images: (one, one)
        (row,) = compare(part, lambda images, outputs=outputs: outputs, [(4, 4)], [1])
        assert row.deviation == float('inf')


@pytest.mark.parametrize(
    'hidden, message',
    [
        (('onnx', 'onnxscript'), 'pip install onnx onnxscript'),
        (('onnxscript',), 'needs onnxscript: pip install'),
    ],
)
def test_missing_packages_are_named(hidden, message, tmp_path, monkeypatch):
    from kw_mm.export import formats as files

    monkeypatch.setattr(files, 'find_spec', lambda name: None if name in hidden else object())
    monkeypatch.setattr(torch.compiler, 'is_exporting', lambda: False, raising=False)
    with pytest.raises(UserError, match=message):
        write(None, None, str(tmp_path / 'x'), 'onnx', names=[], about={})


def test_an_old_torch_is_told_what_works(tmp_path, monkeypatch):
    monkeypatch.delattr(torch.compiler, 'is_exporting', raising=False)
    for to in ('onnx', 'exported-program'):
        with pytest.raises(UserError, match='needs torch 2.7 or newer.*--to torchscript works'):
            write(None, None, str(tmp_path / 'x'), to, names=[], about={})


@MAKES_PROGRAMS
def test_an_unknown_opset(tmp_path):
    pytest.importorskip('onnx')
    with pytest.raises(UserError, match='opset=9 cannot be written; choose 18 to 23'):
        write(None, None, str(tmp_path / 'x'), 'onnx', names=[], about={}, opset=9)
