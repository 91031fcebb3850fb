"""Options of the command lines."""

import argparse

import pytest

from kw_mm.command_line import CfgOptions


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
