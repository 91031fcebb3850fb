"""The file formats: writing and running them."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

FORMATS = {'onnx': 'onnx', 'torchscript': 'pt', 'exported-program': 'pt2'}  # usual endings
OPSETS = range(18, 24)
AXES = {0: 'batch', 2: 'height', 3: 'width'}  # of the input, unless a part has others
ABOUT = 'kw_mm.json'

Run = Callable[[Tensor], list[Tensor]]


def check_format(to: str, opset: int) -> None:
    """Check that this installation can write a format.

    Raises:
        UserError: Says what is missing and how to get it.
    """
    if to == 'torchscript':
        return
    if not hasattr(torch.compiler, 'is_exporting'):
        raise UserError(
            f'--to {to} needs torch 2.7 or newer, this is {torch.__version__}; '
            '--to torchscript works with it'
        )
    needed = ('onnx', 'onnxscript') if to == 'onnx' else ()
    missing = [name for name in needed if not find_spec(name)]
    if missing:
        raise UserError(
            f'--to onnx needs {" and ".join(missing)}: pip install onnx onnxscript onnxruntime'
        )
    if to == 'onnx' and opset not in OPSETS:
        raise UserError(f'opset={opset} cannot be written; choose {OPSETS[0]} to {OPSETS[-1]}')


def write(
    part: nn.Module,
    images: Tensor,
    path: str,
    to: str,
    *,
    names: Sequence[str],
    about: dict[str, Any],
    opset: int = 20,
    fixed: Collection[str] = (),
) -> None:
    """Write a network into a file that takes any batch and size.

    Args:
        part: Images -> tuple of tensors, in eval mode.
        images (Tensor): An example, of two images or more unless the batch is fixed, with maps of
            two pixels or more throughout.
        path: The file to write.
        to: 'onnx', 'torchscript' or 'exported-program'.
        names: Of the outputs.
        about: What goes with it as JSON, in ONNX's metadata or an extra file ``kw_mm.json``.
        opset: Of ONNX.
        fixed: Axes that are written as they are in the example: 'batch', 'height', 'width'.
            TorchScript does not record any.

    Raises:
        UserError: A format that this installation cannot write, or a network that fixes batch or
            size.
    """
    check_format(to, opset)
    axes = {axis: name for axis, name in getattr(part, 'axes', AXES).items() if name not in fixed}
    extra = {ABOUT: json.dumps(about)}
    with torch.no_grad(), _quiet():
        if to == 'torchscript':
            torch.jit.trace(part, images, check_trace=False).save(path, _extra_files=extra)
            return
        program = _program(part, images, axes)
        if to == 'exported-program':
            with open(path, 'wb') as file:  # torch warns of names that do not end in .pt2
                torch.export.save(program, file, extra_files=extra)
        else:
            written = _onnx(program, images, names, opset, part)
            _name_axes(written.graph, axes)
            _save_onnx(written, path, extra[ABOUT])


def _program(part: nn.Module, images: Tensor, axes: Mapping[int, str]):
    free = {axis: torch.export.Dim.DYNAMIC for axis in axes}
    try:
        return torch.export.export(part, (images,), dynamic_shapes=(free,), strict=False)
    except Exception as error:  # torch raises a dozen kinds here, each a page long
        raise UserError(
            'torch.export cannot write this network for any batch and size '
            f'({str(error).strip().splitlines()[0][:200]}); --to torchscript may'
        ) from error


def _onnx(program, images: Tensor, names: Sequence[str], opset: int, part: nn.Module):
    operators = part.onnx_operators() if hasattr(part, 'onnx_operators') else None
    return torch.onnx.export(
        program,
        (images,),
        dynamo=True,
        verbose=False,
        opset_version=opset,
        input_names=['images'],
        output_names=list(names),
        custom_translation_table=operators,
    ).model_proto


def _save_onnx(written, path: str, about: str) -> None:
    import onnx

    onnx.helper.set_model_props(written, {ABOUT: about})
    onnx.checker.check_model(written)
    onnx.save(written, path)


def _name_axes(graph, axes: Mapping[int, str]) -> None:
    """Call the input's free axes batch, height and width wherever torch's own symbols stand."""
    own = {
        graph.input[0].type.tensor_type.shape.dim[axis].dim_param: name
        for axis, name in axes.items()
    }
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(
                    r'\w+', lambda symbol: own.get(symbol[0], symbol[0]), dim.dim_param
                )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without exporters' remarks on what is constant by design; the file is compared instead."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)


def runner(path: str, to: str) -> Run:
    """Load a file for running on the CPU.

    Args:
        path: The file.
        to: Its format, 'onnx', 'torchscript' or 'exported-program'.

    Returns:
        Callable: Images (B, 3, H, W) -> list of tensors.
    """
    if to == 'torchscript':
        return _listing(torch.jit.load(path, map_location='cpu'))
    if to == 'exported-program':
        with open(path, 'rb') as file:
            return _listing(torch.export.load(file).module())
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda images: [
        torch.from_numpy(out) for out in session.run(None, {'images': images.numpy()})
    ]


def _listing(module: Callable[[Tensor], tuple[Tensor, ...]]) -> Run:
    def run(images: Tensor) -> list[Tensor]:
        # a few images of many shapes: optimising costs minutes
        with torch.jit.optimized_execution(False):
            return list(module(images))

    return run
