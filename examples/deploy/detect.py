"""Detections out of an ONNX file, with numpy, onnxruntime and OpenCV.

python examples/deploy/detect.py DETECTOR.onnx PICTURE

The file is one that tools/export.py has written with --part detector --with-preprocessing.
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def load(path):
    """The session of a file, and what the file says about itself."""
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return session, json.loads(session.get_modelmeta().custom_metadata_map['kw_mm.json'])


def detect(session, about, picture):
    """Boxes, scores, labels and masks (or None) in pixels of a picture, (H, W, 3) in BGR."""
    height, width = picture.shape[:2]
    image = cv2.resize(picture, size_for(about, height, width))
    number, *outputs = [output[0] for output in session.run(None, {'images': image[None]})]
    boxes, scores, labels, *masks = [output[:number] for output in outputs]
    boxes = boxes / np.array([image.shape[1] / width, image.shape[0] / height] * 2, 'float32')
    return boxes, scores, labels, paste(masks[0], boxes, height, width) if masks else None


def size_for(about, height, width):
    """(width, height) that a picture is resized to: the file's, else as the model was tested."""
    if about['input']['size'] != 'any':
        return tuple(about['input']['size'][::-1])
    resize = about.get('resize', dict(size=(width, height), keep_ratio=False))
    if not resize['keep_ratio']:
        return tuple(resize['size'])
    longer, shorter = sorted(resize['size'], reverse=True)
    scale = min(longer / max(height, width), shorter / min(height, width))
    return int(width * scale + 0.5), int(height * scale + 0.5)


def paste(masks, boxes, height, width, threshold=0.5):
    """Masks (N, S, S) of boxes as masks of the picture, bool (N, height, width)."""
    pasted = np.zeros((len(masks), height, width), bool)
    for mask, (left, top, right, bottom), out in zip(masks, boxes, pasted):
        x0, y0 = max(int(left) - 1, 0), max(int(top) - 1, 0)
        x1, y1 = min(int(np.ceil(right)) + 1, width), min(int(np.ceil(bottom)) + 1, height)
        across = weights(np.arange(x0, x1), left, right, len(mask))
        down = weights(np.arange(y0, y1), top, bottom, len(mask))
        out[y0:y1, x0:x1] = down @ mask @ across.T >= threshold
    return pasted


def weights(pixels, low, high, bins):
    """How much of each bin a pixel gets, linear between the centres of bins."""
    place = (pixels + 0.5 - low) / max(high - low, 1e-6) * bins - 0.5
    return np.maximum(0, 1 - abs(place[:, None] - np.arange(bins)))


def main(path, picture):
    session, about = load(path)
    found = detect(session, about, cv2.imread(picture))
    names = about.get('classes')
    for i, (box, score, label) in enumerate(zip(*found[:3])):
        name = names[label] if names else label
        pixels = '' if found[3] is None else f', {int(found[3][i].sum())} pixels'
        print(f'{name} {score:.2f} at {" ".join(f"{side:.0f}" for side in box)}{pixels}')


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
