"""Run mmcv's RoIAlign and NMS on the GPU and compare with the CPU: what a detector needs first."""

import torch
from mmcv.ops import nms, roi_align


def main() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 8, 32, 32)
    corners = 16 * torch.rand(50, 2)
    boxes = torch.cat([corners, corners + 1 + 16 * torch.rand(50, 2)], dim=1)  # (x1, y1, x2, y2)
    rois = torch.cat([torch.zeros(50, 1), boxes], dim=1)
    scores = torch.rand(50)
    expected = roi_align(features, rois, (7, 7), 1.0, 2, 'avg', True), nms(boxes, scores, 0.5)[1]
    features, rois, boxes, scores = (one.cuda() for one in (features, rois, boxes, scores))
    found = roi_align(features, rois, (7, 7), 1.0, 2, 'avg', True), nms(boxes, scores, 0.5)[1]
    torch.testing.assert_close(found[0].cpu(), expected[0], rtol=1e-4, atol=1e-4)
    if found[1].tolist() != expected[1].tolist():
        raise AssertionError(f'NMS keeps {found[1].tolist()}, on the CPU {expected[1].tolist()}')
    print(f'RoIAlign and NMS run on {torch.cuda.get_device_name()} as on the CPU')


if __name__ == '__main__':
    main()
