"""Milliseconds an image: PyTorch, onnxruntime and, where it is installed, OpenVINO.

python examples/deploy/benchmark.py CONFIG CHECKPOINT DETECTOR.onnx --size 640 640

The file is one that tools/export.py has written with --part detector --with-preprocessing from the
same config and checkpoint. The runtimes take turns, so that what else the machine does meets all of
them; the median of the repetitions is printed. All start from pixels and end with boxes; PyTorch
pastes its masks into the image, which it cannot leave out.
"""

import argparse
import os
import platform
import statistics
import time
from importlib.metadata import version
from importlib.util import find_spec


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('file', help='DETECTOR.onnx')
    parser.add_argument('--size', nargs=2, type=int, default=(640, 640), metavar=('H', 'W'))
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='count processor time of one thread: on a machine that does other things, too',
    )
    parser.add_argument('--picture', help='a picture to detect in; by default a drawn one')
    args = parser.parse_args()
    if args.cpu_time and args.threads != 1:
        parser.error('--cpu-time counts all threads together; it needs --threads 1')
    os.environ['OMP_NUM_THREADS'] = str(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter

    import cv2

    from kw_mm.export.detection_comparison import drawn_pictures

    picture = cv2.imread(args.picture) if args.picture else drawn_pictures(1)[0]
    image = cv2.resize(picture, args.size[::-1])[None]
    runs = dict(PyTorch=of_torch(args), onnxruntime=of_onnxruntime(args))
    if find_spec('openvino'):
        runs['OpenVINO'] = of_openvino(args)
    found = {name: run(image) for name, run in runs.items()}  # and warms up
    times = {name: [] for name in runs}
    for _ in range(args.repetitions):
        for name, run in runs.items():
            start = clock()
            run(image)
            times[name].append(1000 * (clock() - start))
    height, width = args.size
    kind = 'processor time' if args.cpu_time else 'time'
    print(f'{kind}, {height} x {width}, batch 1, threads {args.threads}, {processor()}')
    for name, milliseconds in times.items():
        package = {'PyTorch': 'torch'}.get(name, name.lower())
        print(
            f'{name} {version(package)}: {statistics.median(milliseconds):.0f} ms '
            f'({min(milliseconds):.0f} to {max(milliseconds):.0f}), {found[name]} detections'
        )


def of_torch(args):
    import torch

    from kw_mm.building import build_model
    from kw_mm.checkpoints.loading import load_weights
    from kw_mm.export.detection_comparison import predict
    from kw_mm.run_config import load_config

    torch.set_num_threads(args.threads)
    model = build_model(load_config(args.config))
    load_weights(model, args.checkpoint, logger='silent')
    model = model.eval().requires_grad_(False)

    def run(images):
        with torch.inference_mode():
            return len(predict(model, images)[0][0]['scores'])

    return run


def of_onnxruntime(args):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.file, options, providers=['CPUExecutionProvider'])
    return lambda images: int(session.run(None, {'images': images})[0][0])


def of_openvino(args):
    import openvino

    model = openvino.compile_model(
        args.file, 'CPU', {'INFERENCE_NUM_THREADS': args.threads, 'INFERENCE_PRECISION_HINT': 'f32'}
    )
    return lambda images: int(model(images)[0][0])


def processor():
    """The processor's name, where the system says it."""
    try:
        with open('/proc/cpuinfo') as file:
            return next(line.split(':')[1].strip() for line in file if 'model name' in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == '__main__':
    main()
