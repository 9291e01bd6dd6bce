"""VersionInfo: which build of a service it is that reports its health."""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass

from dp_kafka.health.state import timestamp

__all__ = ["VersionInfo"]


@dataclass(frozen=True)
class VersionInfo:
    """The `version` part of the health document; what is not given stays empty.

    `version` and `git_commit` are those of the service, `build_time` a datetime, or a text that is passed
    on as it is.
    """

    version: str = ""
    git_commit: str = ""
    build_time: datetime.datetime | str = ""

    def to_dict(self) -> dict[str, str]:
        """Ready for JSON, with the language and its version."""
        built = self.build_time
        return {
            "build_time": (timestamp(built) or "") if isinstance(built, datetime.datetime) else built,
            "git_commit": self.git_commit,
            "language": "python",
            "language_version": platform.python_version(),
            "version": self.version,
        }
