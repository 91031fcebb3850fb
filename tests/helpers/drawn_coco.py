"""A tiny set in COCO's layout, drawn with rectangles: two objects of two classes in each image."""

import json

import numpy as np
from hypothesis import strategies as st
from PIL import Image

WIDTH, HEIGHT = 96, 64
CLASSES = ('box', 'disc')


def annotations_of(images=4):
    """What an annotation file of so many images holds."""
    content = dict(
        images=[
            dict(id=i, file_name=f'{i:03d}.png', width=WIDTH, height=HEIGHT)
            for i in range(1, images + 1)
        ],
        annotations=[],
        categories=[dict(id=1, name='box'), dict(id=2, name='disc')],
    )
    for i in range(images):
        for category, (x, y, w, h) in ((1, (6 + 3 * i, 8, 30, 20)), (2, (50, 20 + 2 * i, 24, 24))):
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,
                    image_id=i + 1,
                    category_id=category,
                    bbox=[x, y, w, h],
                    area=w * h,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                    iscrowd=0,
                )
            )
    return content


def write(path, content):
    """Write an annotation file; its path as a string."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


def draw(folder, content):
    """Write the images of an annotation file, grey with the objects in two colours."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in content['images']:
        pixels = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
        for one in content['annotations']:
            if one['image_id'] == image['id']:
                x, y, w, h = one['bbox']
                pixels[y : y + h, x : x + w] = (200, 60, 60) if one['category_id'] == 1 else 30
        Image.fromarray(pixels).save(folder / image['file_name'])


NAN, INF = float('nan'), float('inf')
NUMBERS = st.one_of(
    st.sampled_from([NAN, INF, -INF, 0, -1, 1, 0.5, 1e7, 1e300, True, 31.5]), st.integers(-200, 200)
)
VALUES = st.one_of(
    NUMBERS,
    st.sampled_from([None, '', '7', 'box', [], {}, [[]], [None], '1', 'nan']),
    st.lists(NUMBERS, max_size=8),
    st.lists(st.lists(NUMBERS, max_size=9), max_size=3),
)
ANNOTATION_FIELDS = (
    'id',
    'image_id',
    'category_id',
    'bbox',
    'area',
    'iscrowd',
    'ignore',
    'segmentation',
)
