"""Every block of the documentation runs, or says what it needs and names what exists."""

import ast
import re
import sys
from importlib.util import find_spec

import pytest
from doc_blocks import NEEDS, blocks, commands, small_options
from in_process import run_here
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from reading_configs import read_only
from run_tools import ROOT

from kw_mm.run_config import load_config

DOCS = {path.name: path for path in sorted((ROOT / 'docs').glob('*.md'))}
# long measurements and runs, tested elsewhere
CHECKED = ('performance.md', 'pretrained.md', 'results.md')
TRAINED_BY = {
    'tools/dist_train.sh': 'train',
    'tools/slurm_train.sh': 'train',
    'tools/dist_test.sh': 'test',
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder a page's reader works in: tools and configs, and files in it can be imported."""
    for name in ('tools', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (
            getattr(sys.modules[name], '__file__', None)
            and str(tmp_path) in sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def help_of(capsys, monkeypatch):
    """Function: what a tool says about its options."""

    def read(name):
        with pytest.raises(SystemExit):
            monkeypatch.setattr(sys, 'argv', [name, '--help'])
            exec(
                compile((ROOT / f'tools/{name}.py').read_text(), name, 'exec'),
                dict(__name__='__main__'),
            )
        return capsys.readouterr().out

    return read


def check_command(command, place, help_of):
    """Scripts, configs and options of a command exist."""
    if not command.program.startswith('tools/'):
        return
    assert (place / command.program).is_file(), command
    tool = TRAINED_BY.get(command.program) or command.program[len('tools/') :].partition('.')[0]
    options = [word for word in command.args if word.startswith('--')]
    if options:
        known = re.findall(r'--[\w-]+', help_of(tool))
        assert set(options) <= set(known), (command, sorted(set(options) - set(known)))
    for word in command.args:
        if word.endswith('.py'):
            assert (place / word).is_file(), f'{word} of {command} does not exist'
            ours = word.startswith('configs/') and (ROOT / word).is_file()
            settings = (
                read_only(word.removeprefix('configs/')) if ours else load_config(str(place / word))
            )
            for key in [key for key in command.args if re.fullmatch(r'[a-z_]+\.[\w.]+=.*', key)]:
                assert has(settings, key.partition('=')[0].split('.')[:-1]), (command, key)


def has(settings, path):
    """Whether a config has what an option is put into."""
    for key in path:
        if key not in settings:
            return False
        settings = settings[key]
    return True


def run_commands(block, place, help_of, **fixtures):
    more = small_options(block.value) if block.kind == 'small' else {}
    for command in commands(block.text):
        check_command(command, place, help_of)
        assert command.program.startswith('tools/') and command.program.endswith('.py'), (
            f'cannot run {command}'
        )
        tool = command.program[len('tools/') : -len('.py')]
        done = run_here(tool, *command.args, *more.pop(tool, []), **fixtures)
        assert done.code == 0, (command, done)
    assert not more, f'no command for {more}'


def build(path):
    """Build a config's model, without its weights; nothing for a file that is no config."""
    if '_base_' not in path.read_text():
        return
    cfg = load_config(str(path))
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    model = dict(
        cfg.model,
        data_preprocessor=cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor'),
    )
    assert any(
        hasattr(module, 'warehouses') for module in MODELS.build(Config(dict(m=model)).m).modules()
    )


def called(code):
    """Names of what is called in Python code."""
    calls = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return {getattr(call, 'attr', getattr(call, 'id', None)) for call in calls}


@pytest.mark.parametrize('name', [name for name in DOCS if name not in CHECKED])
def test_a_page(name, place, help_of, capsys, monkeypatch):
    namespace = {}
    for block in blocks(DOCS[name].read_text()):
        if block.kind == 'needs':
            assert block.language == 'bash' and set(block.value.split()) <= NEEDS, block
            for command in commands(block.text):
                check_command(command, place, help_of)
        elif block.kind == 'tested':
            test = (ROOT / block.value).read_text()
            if block.language == 'python':
                assert called(block.text) <= called(test), (block, block.value)
                continue
            for command in commands(block.text):
                check_command(command, place, help_of)
                assert command.program[len('tools/') : -len('.py')] in test, (command, block.value)
        elif block.kind == 'file':
            (place / block.value).write_text(block.text)
            build(place / block.value)
        elif block.language == 'bash':
            run_commands(block, place, help_of, capsys=capsys, monkeypatch=monkeypatch)
        elif block.kind == 'package' and find_spec(block.value) is None:
            pytest.skip(f'needs {block.value}')
        elif block.language == 'python':
            exec(compile(block.text, name, 'exec'), namespace)


@pytest.mark.parametrize('name', ['README.md', *CHECKED])
def test_commands_of_a_page_exist(name, place, help_of):
    path = DOCS.get(name) or ROOT / name
    for block in blocks(path.read_text()):
        if block.language == 'bash':
            for command in commands(block.text):
                check_command(command, place, help_of)


def test_a_command_that_does_not_exist_is_found(place, help_of):
    for line in (
        'python tools/trian.py x',
        'python tools/train.py configs/nowhere.py',
        'python tools/train.py --fast',
        'python tools/train.py configs/mask_rcnn_kw_r50_1x_coco.py '
        '--cfg-options model.backbon.depth=18',
    ):
        with pytest.raises(AssertionError):
            check_command(commands(line)[0], place, help_of)
    good = commands(
        'A=1 bash tools/dist_train.sh configs/mask_rcnn_kw_r50_1x_coco.py 8 --amp  # yes'
    )
    check_command(good[0], place, help_of)


def test_an_unmarked_block_that_cannot_be_run_is_found(place, help_of, capsys, monkeypatch):
    for text in (
        'pip install kw_mm',
        'bash tools/dist_train.sh configs/mask_rcnn_kw_r50_1x_coco.py 8',
    ):
        (block,) = blocks(f'```bash\n{text}\n```\n')
        with pytest.raises(AssertionError, match='cannot run'):
            run_commands(block, place, help_of, capsys=capsys, monkeypatch=monkeypatch)
