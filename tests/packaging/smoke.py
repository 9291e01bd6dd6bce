"""Run in a clean environment, with the extras that are installed there: uses what users were promised.

It knows nothing of the source tree, and fails with a traceback.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import pkgutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import dp_kafka
from dp_kafka import ConfigError, ConsumerGroupConfig, Producer, ProducerConfig
from dp_kafka.avro import Schema, UnmarshalError
from dp_kafka.codecs import JsonCodec, RegistryCodec
from dp_kafka.kafkatest import EmbeddedCluster

ORDER = '{"type": "record", "name": "Order", "fields": [{"name": "number", "type": "int"}]}'
ADDRESSES = ["localhost:9092"]
#: Modules that need more than the library does, and the packages that they need.
NEEDY = {"dp_kafka.cli.commands": {"click", "rich", "yaml"}, "dp_kafka.kafkatest.plugin": {"pytest"}}


def base() -> None:
    """What needs no extra: the import of everything, the demo, and what is in the distribution."""
    assert Path(dp_kafka.__file__).is_relative_to(sys.prefix), dp_kafka.__file__
    distribution = importlib.metadata.distribution("dp-kafka")
    assert distribution.version == dp_kafka.__version__
    names = {Path(str(file)).name for file in distribution.files or ()}
    assert "LICENSE" in names
    assert importlib.resources.files("dp_kafka").joinpath("py.typed").is_file()
    installed = {str(file).split("/")[0] for file in distribution.files or () if file.suffix == ".py"}
    assert installed == {"dp_kafka"}, f"it installs more than the library: {installed}"
    import_everything()
    shown = run("dp-kafka", "demo", "--messages", "2000")
    assert "Every message was handled once" in shown, shown
    assert "Every message was handled once" in run(
        sys.executable, "-m", "dp_kafka", "demo", "--messages", "500"
    )
    assert "demo" in run("dp-kafka", "--help")
    assert dp_kafka.__version__ in run("dp-kafka", "--version")


def import_everything() -> None:
    """Import every module; one that cannot be has to be one of `NEEDY`, and miss what it is known to need."""
    for module in pkgutil.walk_packages(dp_kafka.__path__, "dp_kafka.", onerror=lambda _: None):
        missed = None if module.name.endswith("__main__") else missed_by(module.name)
        known = any(missed in packages for name, packages in NEEDY.items() if module.name.startswith(name))
        assert missed is None or known, f"{module.name} needs {missed}, which is not installed"


def missed_by(module: str) -> str | None:
    """What the import of a module finds missing, if anything."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return error.name
    return None


# -- extras: what they enable, and what is said without them ------------------------------------------


def fast() -> None:
    """Both engines that it brings are taken by themselves."""
    assert JsonCodec().engine == "orjson"
    assert JsonCodec().decode(JsonCodec().encode({"number": 1})) == {"number": 1}
    schema = Schema(ORDER, engine="fastavro")
    assert schema.unmarshal(schema.marshal({"number": 1})) == {"number": 1}
    assert schema.marshal({"number": 1}) == Schema(ORDER, engine="avro").marshal({"number": 1})


def without_fast() -> None:
    """The library's own packages do the work; the engines that are not there are refused by name."""
    assert JsonCodec().engine == "json"
    assert Schema(ORDER).unmarshal(Schema(ORDER).marshal({"number": 1})) == {"number": 1}
    refuses("dp-kafka[fast]", lambda: JsonCodec(engine="orjson"))
    # The extra `registry` brings this one too.
    if importlib.util.find_spec("fastavro") is None:
        refuses("dp-kafka[fast]", lambda: Schema(ORDER, engine="fastavro"))


def registry() -> None:
    """The codec can be made; it asks its registry only for the first message."""
    with RegistryCodec({"url": "http://localhost:1"}, "orders", ORDER) as codec:
        raises(UnmarshalError, lambda: codec.decode(b"framed by no registry"))


def without_registry() -> None:
    """The codec says what it needs."""
    refuses("dp-kafka[registry]", lambda: RegistryCodec({"url": "http://localhost:1"}, "orders", ORDER))


def otel() -> None:
    """A message that is sent makes a span."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with EmbeddedCluster() as cluster:
        cluster.create_topic("orders")
        with Producer(ProducerConfig(cluster.broker_addrs, "orders", otel_enabled=True)) as producer:
            producer.send_json({"number": 1})
    assert [span.name for span in exporter.get_finished_spans()] == ["send orders"]


def without_otel() -> None:
    """A configuration that would record nothing is refused."""
    refuses("dp-kafka[otel]", lambda: ProducerConfig(ADDRESSES, "orders", otel_enabled=True))
    refuses("dp-kafka[otel]", lambda: ConsumerGroupConfig(ADDRESSES, "orders", "billing", otel_enabled=True))


def cli() -> None:
    """Every command is there, and one of them works on a cluster."""
    commands = run("dp-kafka", "--help")
    for command in ("acls", "consume", "drain", "health", "lag", "produce", "redrive", "topics"):
        assert f"  {command} " in commands, commands
    importlib.import_module("dp_kafka.cli.commands.manifest")
    importlib.import_module("yaml")
    with EmbeddedCluster() as cluster:
        cluster.create_topic("orders", partitions=3)
        assert "orders" in run("dp-kafka", "topics", "list", "--brokers", cluster.bootstrap_servers)


def without_cli() -> None:
    """A command that is not there says what brings it, and ends as for wrong arguments."""
    done = subprocess.run(
        [_script("dp-kafka"), "lag"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "pip install 'dp-kafka[cli]'" in done.stderr, done.stderr


# -- extras of those who work on the library: they bring what they say ---------------------------------


def test() -> None:
    """A service's test runs, with the fixtures of the plugin that comes with the library."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_service.py").write_text(
            "def test_sends(fake_producer):\n"
            "    fake_producer.send_json({'number': 1})\n"
            "    assert fake_producer.wait_for_sent().value() == b'{\"number\":1}'\n"
        )
        shown = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder)
    assert "1 passed" in shown, shown
    imports("pytest_timeout", "xdist", "hypothesis", "cryptography", "flask", "gunicorn")


def dev() -> None:
    """Linter, type checker, builder, and what counts the lines that run."""
    for command in ("ruff", "mypy", "coverage"):
        run(command, "--version")
    imports("build")


def mutants() -> None:
    """What changes the code, to see whether tests notice."""
    imports("mutmut")


def docs() -> None:
    """What builds the reference."""
    imports("pdoc")


def bench() -> None:
    """What draws the plots."""
    imports("matplotlib")


def peers() -> None:
    """The clients to compare with."""
    imports("kafka", "aiokafka", "faststream", "quixstreams")


EXTRAS: dict[str, Callable[[], None]] = {
    "fast": fast,
    "registry": registry,
    "otel": otel,
    "cli": cli,
    "test": test,
    "dev": dev,
    "mutants": mutants,
    "docs": docs,
    "bench": bench,
    "peers": peers,
}
WITHOUT = {"fast": without_fast, "registry": without_registry, "otel": without_otel, "cli": without_cli}
#: Extras that bring packages of those.
BRING_OTHERS = {"test", "mutants", "peers"}


def refuses(wanted: str, make: Callable[[], object]) -> None:
    """What needs an extra that is not there raises an error that names it."""
    message = str(raises(ConfigError, make))
    assert wanted in message, message


def raises(kind: type[Exception], call: Callable[[], object]) -> Exception:
    """The exception of this kind that a call ends with; there is no pytest here."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"it raises no {kind.__name__}")


def imports(*packages: str) -> None:
    """They are installed. Their own warnings at import are not this library's."""
    for package in packages:
        assert importlib.util.find_spec(package) is not None, f"{package} is not installed"


def run(*command: str) -> str:
    """What a command of this environment prints."""
    words = list(command)
    if words[0] != sys.executable:
        words[0] = _script(words[0])
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def _script(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts"), name))


def main(extras: list[str]) -> None:
    """Check the extras that are installed, and that the others are missed by name."""
    base()
    for extra in extras:
        EXTRAS[extra]()
    for extra, check in WITHOUT.items():
        if extra not in extras and not set(extras) & BRING_OTHERS:
            check()
    print(f"{sys.version.split()[0]}: dp-kafka {dp_kafka.__version__} with {', '.join(extras) or 'no extra'}")


if __name__ == "__main__":
    main(sys.argv[1:])
