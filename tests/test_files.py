import os
from pathlib import Path

from kw_mm.files import atomic_write, files_in, remove_parts


def test_parts_that_another_process_removes_first(tmp_path, monkeypatch):
    for name in ('.a.pth.part', '.b.pth.part', '.c.json.part'):
        (tmp_path / name).write_text('')
    is_file = Path.is_file
    monkeypatch.setattr(Path, 'is_file', lambda path: is_file(path) and not os.remove(path))
    remove_parts(tmp_path, '*.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['.c.json.part']


def test_files_by_their_endings(tmp_path):
    for name in ('b.PNG', 'a.jpg', 'c.txt'):
        with atomic_write(tmp_path / name) as draft:
            Path(draft).write_text('')
    (tmp_path / 'folder.png').mkdir()
    assert [path.name for path in files_in(tmp_path)] == ['a.jpg', 'b.PNG']
    assert [path.name for path in files_in(tmp_path, ('.txt',))] == ['c.txt']
