"""What labelling tools write differently from COCO, put right; the export itself stays as it is.

Each repair changes the content in place and says in words what it did.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Content = dict[str, Any]


def repair(content: Content, rename: Callable[[str], str], renamed: str) -> list[str]:
    """Put right what can be put right without guessing.

    Args:
        content: Of an annotation file with images, annotations and categories.
        rename: What makes file names that exist of those in the file.
        renamed: What that does, in words; empty for nothing.

    Returns:
        list: What was done, in words.
    """
    done = []
    if renamed:
        for image in content['images']:
            image['file_name'] = rename(image['file_name'])
        done.append(f'{len(content["images"])} file names are written {renamed}')
    for field, kind in (('image_id', 'images'), ('category_id', 'categories')):
        done += _same_type(content, field, kind)
    done += _unique_ids(content['annotations'])
    done += _areas(content['annotations'])
    return done


def drop_unused_twins(content: Content) -> list[str]:
    """Leave out a category without annotations of which another one has the name.

    Roboflow's first category is a group, called like the data set, and so may be a class.
    """
    used = {one.get('category_id') for one in content['annotations'] if isinstance(one, dict)}
    places: dict[str, list[dict[str, Any]]] = {}
    for category in content['categories']:
        places.setdefault(category['name'], []).append(category)
    done = []
    for name, twins in places.items():
        unused = [twin for twin in twins if twin['id'] not in used]
        if len(twins) - len(unused) == 1 and unused:
            content['categories'] = [one for one in content['categories'] if one not in unused]
            done.append(
                f'{len(twins)} categories are called {name!r}; those without annotations are left '
                'out'
            )
    return done


def add_categories(content: Content, classes: Sequence[str]) -> list[str]:
    """Add the classes that a file has no category for: mmdet asks every file for all of them."""
    categories = content['categories']
    known = {category['name'] for category in categories}
    lacking = [name for name in classes if name not in known]
    ids = [category['id'] for category in categories]
    free = max((key for key in ids if isinstance(key, int)), default=0) + 1
    if not lacking or any(isinstance(key, str) for key in ids):
        return []
    categories += [dict(id=free + i, name=name) for i, name in enumerate(lacking)]
    return [f'the categories that it has no instance of are added: {", ".join(lacking)}']


def _same_type(content: Content, field: str, kind: str) -> Iterator[str]:
    """Give annotations the id that is meant where it is of another type: '1' for 1."""
    ids = {entry['id'] for entry in content[kind]}
    meant = {str(key): key for key in ids}
    changed = 0
    for one in content['annotations']:
        key = one[field]
        if isinstance(key, (int, str)) and key not in ids and str(key) in meant:
            one[field] = meant[str(key)]
            changed += 1
    if changed:
        yield f'{changed} annotations have {field} of another type than the ids of {kind}'


def _unique_ids(annotations: list[dict[str, Any]]) -> Iterator[str]:
    ids = [one.get('id') for one in annotations]
    if None in ids or len(set(map(str, ids))) < len(ids):
        for number, one in enumerate(annotations, 1):
            one['id'] = number
        yield f'ids of annotations were missing or came twice: {len(ids)} are numbered anew'


def _areas(annotations: list[dict[str, Any]]) -> Iterator[str]:
    lacking = [one for one in annotations if one.get('area') is None]
    for one in lacking:
        one['area'] = one['bbox'][2] * one['bbox'][3]
    if lacking:
        yield f'{len(lacking)} annotations have no area: that of their box is taken'
