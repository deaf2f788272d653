"""Every registered schedule passes the shipped suite; and one that a file registers."""

from __future__ import annotations

from pathlib import Path

import pytest

import scholarch
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.supernet.factory import create_schedule, describe_schedule, list_schedules
from scholarch.supernet.schedule import SCHEDULES, Pass
from scholarch.testing.schedule_suite import (
    TestEverySchedule,  # noqa: F401 (collected here)
    whole,  # noqa: F401 (its fixture)
)

PLUGIN = '''
from scholarch.supernet.schedule import Pass, Phase, Schedule, register_schedule

@register_schedule("test-half")
def half(*, share: float = 0.5) -> Schedule:
    """The largest, then random ones."""
    return Schedule("test-half", (
        Phase("largest", share, (Pass("largest", labels=1.0),)),
        Phase("random", 1.0 - share, (Pass("random", labels=1.0),)),
    ))
'''


def test_registered_by_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SCHEDULES, "_items", dict(SCHEDULES._items))
    file = tmp_path / "half.py"
    file.write_text(PLUGIN)
    scholarch.load_plugin(file)
    assert "test-half" in list_schedules("test-*")
    assert describe_schedule("test-half") == "The largest, then random ones"
    assert [p.share for p in create_schedule("test-half", share=0.25).phases] == [0.25, 0.75]


def test_what_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown schedule 'delaid'; did you mean delayed"):
        create_schedule("delaid")
    with pytest.raises(InvalidInputError, match=r"schedule 'delayed': .*'warm'"):
        create_schedule("delayed", warm=0.1)
    with pytest.raises(InvalidInputError, match="need 0 < ramp < warmup < 1"):
        create_schedule("delayed", warmup=1.5)
    with pytest.raises(InvalidInputError, match="cannot learn its own answers"):
        Pass("largest", soft=1.0)
