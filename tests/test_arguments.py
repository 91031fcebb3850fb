"""Options of the command lines."""

import argparse
import re
import runpy
import shlex
import sys

import pytest
from run_tools import ROOT

from kw_mm.command_line import CfgOptions

TOOLS = sorted(path.stem for path in (ROOT / 'tools').glob('*.py'))
WITHOUT_ARGUMENTS = ('check_cuda_ops',)


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    return parser


def test_changes_are_read_as_by_mmengine(parser):
    options = parser.parse_args(
        ['--cfg-options', 'a.b=2', 'c=[1,2]', 'd=None', 'e=x=y']
    ).cfg_options
    assert options == {'a.b': 2, 'c': [1, 2], 'd': None, 'e': 'x=y'}


@pytest.mark.parametrize('option', ['a.b', 'a=(1,2', 'a=[[dict(b=1,c=2)]]'])
def test_what_cannot_be_read_is_a_usage_error(parser, option, capsys):
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(['--cfg-options', option])
    assert stop.value.code == 2 and 'takes KEY=VALUE' in capsys.readouterr().err


@pytest.mark.parametrize('name', [name for name in TOOLS if name not in WITHOUT_ARGUMENTS])
def test_every_tools_help_shows_examples_that_it_takes(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [name, '--help'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / f'tools/{name}.py'), run_name='__main__')
    said = capsys.readouterr().out
    examples = said.partition('examples:\n')[2].splitlines()
    assert stop.value.code == 0 and examples
    for example in examples:
        program, tool, *args = shlex.split(example, comments=True)
        assert (program, tool.replace('-', '_')) == ('kw_mm', name)
        options = {word for word in args if word.startswith('--')}
        assert options <= set(re.findall(r'--[\w-]+', said.partition('examples:')[0])), example


def test_a_tools_name_and_nothing_else_shows_its_help(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['train'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')
    said = capsys.readouterr().err
    assert stop.value.code == 2 and '--resume' in said and 'examples:' in said
    assert said.endswith('error: the following arguments are required: config\n')
