"""Small data sets as labelling tools export them in COCO format, each with its own oddities.

After their documentation and what their users report: Roboflow (a group as first category,
augmented copies under ``NAME.rf.HASH``), CVAT (subsets in one folder of images, brush masks as run
lengths, areas in floats), Label Studio (one file, boxes without masks, backslashes), FiftyOne (only
the classes that a split has, no segmentation) and PyLabel (ids of categories in strings, no areas).
"""

import copy

from drawn_coco import HEIGHT, WIDTH, annotations_of, draw, write

HASH = '.rf.0123456789abcdef{:04d}.jpg'


def roboflow(root, train=6):
    """train, valid and test, each with its images; the test image is a copy of a training one."""
    for split, number in (('train', train), ('valid', 2), ('test', 1)):
        content = annotations_of(number)
        for i, image in enumerate(content['images']):
            stem = f'{"train" if split == "test" else split}-{i:03d}_png'
            image.update(
                id=i,
                license=1,
                file_name=stem + HASH.format(i + (split == 'test')),
                date_captured='2025-01-02T03:04:05+00:00',
                extra=dict(name=f'{i:03d}.png'),
            )
        for number, one in enumerate(content['annotations']):
            one.update(id=number, image_id=one['image_id'] - 1)
        content['categories'] = [
            dict(id=0, name='Shapes', supercategory='none'),
            dict(id=1, name='box', supercategory='Shapes'),
            dict(id=2, name='disc', supercategory='Shapes'),
        ]
        content['info'] = dict(description='Exported from roboflow.com')
        _write(root / split / '_annotations.coco.json', root / split, content)
    return [root]


def cvat(root):
    """Two subsets whose frames have the same names in one folder; a quarter of masks are crowds."""
    for subset, number in (('Train', 4), ('Validation', 2)):
        content = annotations_of(number)
        for image in content['images']:
            image.update(
                file_name=f'frame_{image["id"]:06d}.png', license=0, flickr_url='', coco_url=''
            )
        for i, one in enumerate(content['annotations']):
            one.update(
                attributes=dict(occluded=False), area=float(one['area']), bbox=_floats(one['bbox'])
            )
            if i % 2:
                one['segmentation'] = _run_lengths(one['bbox'])
            if i % 4 == 3:
                one['iscrowd'] = 1
        content['licenses'] = [dict(name='', id=0, url='')]
        for category in content['categories']:
            category['supercategory'] = ''
        _write(root / f'annotations/instances_{subset}.json', root / 'images', content)
    return [root]


def label_studio(root):
    """One file of boxes with the names of a Windows machine, category ids with a gap."""
    content = annotations_of(5)
    content['categories'] = [dict(id=0, name='box'), dict(id=3, name='disc')]
    for i, image in enumerate(content['images']):
        image.update(id=i, file_name=f'cb0618f{i}-{i:03d}.png')
    for number, one in enumerate(content['annotations']):
        one.update(
            id=number,
            image_id=one['image_id'] - 1,
            category_id={1: 0, 2: 3}[one['category_id']],
            segmentation=[],
            ignore=0,
            bbox=_floats(one['bbox']),
        )
    content['info'] = dict(contributor='Label Studio', version='1.0')
    drawn = copy.deepcopy(content)
    for image in content['images']:
        image['file_name'] = f'images\\{image["file_name"]}'
    write(root / 'result.json', content)
    _draw(root / 'images', drawn)
    return [root]


def fiftyone(root):
    """A folder for each split; categories are those that it has, with scores of a model."""
    for split, number in (('train', 4), ('val', 2)):
        content = annotations_of(number)
        for one in content['annotations']:
            del one['segmentation']
            one['score'] = 0.9
        if split == 'val':
            content['annotations'] = [
                one for one in content['annotations'] if one['category_id'] == 1
            ]
            content['categories'] = content['categories'][:1]
        for category in content['categories']:
            category['supercategory'] = None
        for image in content['images']:
            image['file_name'] = f'{split}{image["id"]:03d}.png'
            image['license'] = image['coco_url'] = None
        _write(root / split / 'labels.json', root / split / 'data', content)
    return [root]


def pylabel(root):
    """Two files beside the images, category ids in strings, neither iscrowd nor areas."""
    for split, number in (('train', 4), ('val', 2)):
        content = annotations_of(number)
        for one in content['annotations']:
            del one['iscrowd'], one['area']
            one['category_id'] = str(one['category_id'])
        for image in content['images']:
            image['file_name'] = f'{split}{image["id"]:03d}.png'
        _write(root / f'coco_{split}.json', root, content)
    return [root / 'coco_train.json', root / 'coco_val.json']


EXPORTS = dict(
    roboflow=roboflow, cvat=cvat, label_studio=label_studio, fiftyone=fiftyone, pylabel=pylabel
)


def _write(path, images, content):
    write(path, content)
    _draw(images, content)


def _draw(folder, content):
    whole = copy.deepcopy(content)
    for one in whole['annotations']:
        one['bbox'] = [int(side) for side in one['bbox']]
    draw(folder, whole)


def _floats(box):
    return [float(side) for side in box]


def _run_lengths(box):
    """A box as COCO's uncompressed run lengths, which go down the columns."""
    x, y, width, height = map(int, box)
    counts = [x * HEIGHT + y]
    for _ in range(width - 1):
        counts += [height, HEIGHT - height]
    counts += [height]
    return dict(size=[HEIGHT, WIDTH], counts=[*counts, WIDTH * HEIGHT - sum(counts)])
