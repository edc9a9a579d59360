"""Connecting to a Ray cluster, where Ray fails in its own ways."""

from __future__ import annotations

import pytest
import ray

from segue.engines.ray_copier import LOCAL, connected
from segue.errors import ConfigError


def test_whatever_ray_raises_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that does not start is told by a bare Exception, which is no reason for a stack trace."""

    def init(*_: object, **__: object) -> None:
        message = "The current node timed out during startup. This could happen because some of the raylet failed to startup"
        raise Exception(message)  # noqa: TRY002  # as Ray does

    monkeypatch.setattr(ray, "init", init)
    with (
        pytest.raises(ConfigError, match="there is no Ray cluster at 'local': The current node timed out") as refused,
        connected(LOCAL, 1),
    ):
        pass
    assert "--ray local for this machine alone" in refused.value.hint
