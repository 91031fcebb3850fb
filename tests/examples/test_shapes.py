"""The synthetic set: valid COCO, annotations that match the pixels, reproducible, no files lost."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from shapely.geometry import MultiPolygon, Point, box
from shapes import CLASSES, PALETTE, write_shapes
from shapes import dataset as shapes
from shapes import scene as shape_scene
from shapes.scene import MAX_SHAPES, MIN_VISIBLE, OUTLINES, draw_scene, without_holes

SIZE = 96
COUNTS = dict(train=12, val=5)


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    return write_shapes(folder, num_train=COUNTS['train'], num_val=COUNTS['val'], size=SIZE)


def load(root: Path, split: str) -> COCO:
    return COCO(root / 'annotations' / f'instances_{split}2017.json')


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()
    }


@pytest.mark.parametrize('split', COUNTS)
def test_layout_is_coco(root, split):
    coco = load(root, split)
    assert set(coco.dataset) == {'info', 'licenses', 'images', 'annotations', 'categories'}
    assert len(coco.imgs) == len(coco.dataset['images']) == COUNTS[split]
    assert len(coco.anns) == len(coco.dataset['annotations'])
    assert tuple(coco.cats[i]['name'] for i in sorted(coco.cats)) == CLASSES
    assert len(set(PALETTE)) == len(CLASSES)
    for image in coco.imgs.values():
        pixels = cv2.imread(str(root / f'{split}2017' / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3) == (SIZE, SIZE, 3)
        assert 1 <= len(coco.imgToAnns[image['id']]) <= MAX_SHAPES
    for annotation in coco.anns.values():
        assert annotation['image_id'] in coco.imgs and annotation['category_id'] in coco.cats
        assert annotation['iscrowd'] == 0
        assert all(len(part) >= 6 and len(part) % 2 == 0 for part in annotation['segmentation'])


@pytest.mark.parametrize('split', COUNTS)
def test_box_and_area_are_those_of_the_mask(root, split):
    coco = load(root, split)
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert annotation['area'] == pytest.approx(mask.sum(), rel=0.05, abs=4)
        left, top, width, height = annotation['bbox']
        rows, columns = np.nonzero(mask)
        margin = [
            columns.min() - left,
            rows.min() - top,
            left + width - columns.max() - 1,
            top + height - rows.max() - 1,
        ]
        assert (
            min(margin) >= -1 and max(margin) <= 4
        )  # a sharp tip, thinner than a pixel, leaves no mark on the mask


@pytest.mark.parametrize('split', COUNTS)
def test_masks_of_one_image_are_disjoint(root, split):
    coco = load(root, split)
    for annotations in coco.imgToAnns.values():
        masks = np.stack([coco.annToMask(annotation) for annotation in annotations])
        # rasterised polygons share some pixels along their common border
        assert (masks.sum(0) > 1).sum() <= 0.02 * masks.sum()


def test_mmdet_reads_the_set(root):
    from mmdet.datasets import CocoDataset
    from mmdet.utils import register_all_modules

    register_all_modules()
    dataset = CocoDataset(
        data_root=str(root),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        metainfo=dict(classes=CLASSES, palette=PALETTE),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        ],
    )
    coco = load(root, 'train')
    assert len(dataset) == COUNTS['train']
    assert sum(len(sample['gt_masks']) for sample in dataset) == len(coco.anns)


@pytest.mark.parametrize('index', range(8))
def test_each_shape_is_painted_where_its_annotation_says(index, monkeypatch):
    """Painted flat in a colour of its own, every instance fills its region.

    And no paint lies outside of all regions.
    """
    flat = iter(np.linspace(0.2, 1, MAX_SHAPES))
    monkeypatch.setattr(
        shape_scene, '_texture', lambda rng, size, *_, **__: np.zeros((size, size, 3))
    )

    def paint(rng, image, outline):
        cover = shape_scene._coverage(outline, len(image))[..., None]
        return image * (1 - cover) + next(flat) * cover

    monkeypatch.setattr(shape_scene, '_paint', paint)
    image, instances = draw_scene(np.random.default_rng(index), SIZE)

    for (_, region), colour in zip(instances, np.linspace(0.2, 1, MAX_SHAPES)):
        inside = pixels_within(region.buffer(-1))
        assert inside.any() and (image[inside] == np.uint8(colour * 255)).all()
    anywhere = np.any([pixels_within(region.buffer(1.5)) for _, region in instances], axis=0)
    assert (image[~anywhere] == 0).all()


def pixels_within(region) -> np.ndarray:
    """(SIZE, SIZE) bool: the pixels whose centre lies in the region."""
    return np.array(
        [[region.contains(Point(x + 0.5, y + 0.5)) for x in range(SIZE)] for y in range(SIZE)]
    )


@pytest.mark.parametrize('index', range(20))
def test_every_shape_shows_enough(index, monkeypatch):
    whole = []
    paint = shape_scene._paint
    monkeypatch.setattr(
        shape_scene,
        '_paint',
        lambda rng, image, outline: whole.append(outline) or paint(rng, image, outline),
    )
    _, instances = draw_scene(np.random.default_rng(index), SIZE)
    assert len(instances) == len(whole) >= 1
    for (_, region), outline in zip(instances, whole):
        assert region.area >= MIN_VISIBLE * outline.area - len(whole) * shape_scene.MIN_PART


def test_scenes_are_varied_and_crowded_enough():
    scenes = [draw_scene(np.random.default_rng(index), SIZE) for index in range(40)]
    labels = [label for _, instances in scenes for label, _ in instances]
    assert set(labels) == set(range(len(OUTLINES)))
    assert {len(instances) for _, instances in scenes} == set(range(1, MAX_SHAPES + 1))
    assert any(len(region.geoms) > 1 for _, instances in scenes for _, region in instances), (
        'no shape was cut in two'
    )
    assert min(image.std(axis=(0, 1)).max() for image, _ in scenes) > 5, 'a flat image'


def test_paint_does_not_tell_the_category(monkeypatch):
    """With other labels on the same outlines, the very same pixels come out."""
    image, instances = draw_scene(np.random.default_rng(3), SIZE)
    place = shape_scene._place_shapes

    def relabel(rng, size):
        labels, outlines = place(rng, size)
        return [0] * len(labels), outlines

    monkeypatch.setattr(shape_scene, '_place_shapes', relabel)
    again, _ = draw_scene(np.random.default_rng(3), SIZE)
    assert any(label != 0 for label, _ in instances)
    np.testing.assert_array_equal(image, again)


def test_a_hole_becomes_a_cut():
    ring = box(0, 0, 20, 20).difference(box(5, 5, 9, 9)).difference(box(12, 6, 16, 18))
    parts = without_holes(ring)
    assert not any(part.interiors for part in parts.geoms)
    assert parts.area == pytest.approx(ring.area) and parts.symmetric_difference(
        ring
    ).area == pytest.approx(0)


def test_slivers_are_left_out():
    assert without_holes(MultiPolygon([box(0, 0, 5, 5), box(8, 0, 8.1, 5)])).equals(box(0, 0, 5, 5))


def test_same_seed_same_bytes(root, tmp_path):
    again = write_shapes(
        tmp_path / 'again', num_train=COUNTS['train'], num_val=COUNTS['val'], size=SIZE
    )
    assert files(again) == files(root)


def test_an_image_depends_on_seed_split_and_index_alone(root, tmp_path):
    longer = files(
        write_shapes(tmp_path / 'longer', num_train=COUNTS['train'] + 2, num_val=1, size=SIZE)
    )
    images = {name: data for name, data in files(root).items() if name.startswith('train2017')}
    assert {name: longer[name] for name in images} == images
    other = files(
        write_shapes(tmp_path / 'other', num_train=COUNTS['train'], num_val=1, size=SIZE, seed=1)
    )
    val = [data for name, data in files(root).items() if name.startswith('val2017')]
    everything = [*images.values(), *(other[name] for name in images), *val]
    assert len(set(everything)) == len(everything), 'an image came twice'


def test_a_finished_set_is_reused(root, monkeypatch):
    monkeypatch.setattr(shapes, 'draw_scene', None)  # drawing anything fails
    assert write_shapes(root, num_train=COUNTS['train'], num_val=COUNTS['val'], size=SIZE) == root


@pytest.mark.parametrize(
    'changed', [dict(num_train=13), dict(num_val=6), dict(size=64), dict(seed=1)]
)
def test_another_set_is_not_overwritten(root, changed):
    before = files(root)
    with pytest.raises(FileExistsError, match=str(root)):
        write_shapes(
            root, **{**dict(num_train=COUNTS['train'], num_val=COUNTS['val'], size=SIZE), **changed}
        )
    assert files(root) == before


def test_an_older_version_is_not_taken_for_a_new_one(root, monkeypatch):
    monkeypatch.setattr(shapes, 'VERSION', shapes.VERSION + 1)
    with pytest.raises(FileExistsError):
        write_shapes(root, num_train=COUNTS['train'], num_val=COUNTS['val'], size=SIZE)


@pytest.mark.parametrize('content', ['', '{"num_train": 1'])
def test_a_users_files_stay(tmp_path, content):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'shapes.json').write_text(content)
    (tmp_path / 'mine' / 'notes.txt').write_text('keep')
    with pytest.raises(FileExistsError, match='mine'):
        write_shapes(tmp_path / 'mine', num_train=1, num_val=1)
    assert files(tmp_path) == {'mine/shapes.json': content.encode(), 'mine/notes.txt': b'keep'}


def test_a_file_in_the_way_stays(tmp_path):
    (tmp_path / 'mine').write_text('keep')
    with pytest.raises(FileExistsError, match='mine'):
        write_shapes(tmp_path / 'mine', num_train=1, num_val=1)
    assert (tmp_path / 'mine').read_text() == 'keep'


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / 'new').mkdir()
    assert (
        write_shapes(tmp_path / 'new', num_train=1, num_val=1, size=SIZE)
        / 'train2017'
        / '000000000001.jpg'
    ).exists()


def test_a_crash_leaves_nothing(tmp_path, monkeypatch):
    draws = iter(range(3))

    def break_down(rng, size):
        if next(draws) == 2:
            raise KeyboardInterrupt
        return draw_scene(rng, size)

    monkeypatch.setattr(shapes, 'draw_scene', break_down)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / 'deep' / 'set', num_train=2, num_val=2, size=SIZE)
    assert list((tmp_path / 'deep').iterdir()) == []


def test_the_slower_of_two_writers_takes_the_others_set(tmp_path, monkeypatch):
    first = iter([True])

    def draw(rng, size):
        if next(first, False):  # meanwhile, another process writes the whole set
            write_shapes(tmp_path / 'set', num_train=2, num_val=1, size=SIZE)
        return draw_scene(rng, size)

    monkeypatch.setattr(shapes, 'draw_scene', draw)
    write_shapes(tmp_path / 'set', num_train=2, num_val=1, size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ['set']


@pytest.mark.parametrize('bad', [dict(num_train=0), dict(num_val=-1), dict(size=8), dict(seed=-1)])
def test_bad_numbers_are_refused(tmp_path, bad):
    name, value = *bad, *bad.values()
    with pytest.raises(ValueError, match=f'{name}={value}'):
        write_shapes(tmp_path / 'set', **bad)
    assert not (tmp_path / 'set').exists()


def test_metadata_names_the_parameters(root):
    assert json.loads((root / 'shapes.json').read_text()) == dict(
        num_train=COUNTS['train'], num_val=COUNTS['val'], size=SIZE, seed=0, version=shapes.VERSION
    )
