"""Whether what `otel_enabled=True` needs is there: OpenTelemetry's API, and something that implements it.

The API is a dependency of dp_kafka, so it is missing only from a broken installation. By itself it records
nothing: spans and metrics would vanish without a word. What is usually missing is the SDK, which the extra
`otel` brings. Other implementations of the API count as well, once they are set as the global provider.
"""

from __future__ import annotations

import importlib.util

from dp_kafka.errors import ConfigError

__all__ = ["check_otel"]

_FIELD = "otel_enabled"
_INSTALL = "pip install 'dp-kafka[otel]'"


def check_otel(enabled: bool) -> None:
    """Raise `ConfigError` when OpenTelemetry is wanted and cannot work. Imports nothing when it is not."""
    if not enabled:
        return
    try:
        from opentelemetry import metrics, trace
    except ImportError as error:
        raise ConfigError(
            f"{_FIELD} is True, but opentelemetry-api cannot be imported ({error}): install the extra 'otel' "
            f"({_INSTALL}), or set {_FIELD}=False",
            field=_FIELD,
        ) from error
    if _sdk_installed():
        return
    if _is_foreign(trace.get_tracer_provider()) or _is_foreign(metrics.get_meter_provider()):
        return
    raise ConfigError(
        f"{_FIELD} is True, but opentelemetry-sdk is not installed, and without an implementation "
        f"opentelemetry-api records nothing: install the extra 'otel' ({_INSTALL}), set another "
        f"implementation as the global provider before this configuration is made, or set {_FIELD}=False",
        field=_FIELD,
    )


def _sdk_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.sdk") is not None
    except (ImportError, ValueError):
        return False


def _is_foreign(provider: object) -> bool:
    """Whether a provider is neither the API's placeholder nor of the SDK that is not there."""
    return not type(provider).__module__.startswith("opentelemetry.")
