"""The API reference has every public name that users were promised, each with what it does and raises."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path

import pytest

from docs.site import docstrings, links, public

#: What may be added to, but neither renamed nor narrowed: by module, with the members of classes.
PROMISED = {
    "dp_kafka": """
        ProducerConfig ConsumerGroupConfig AdminConfig SecurityConfig KafkaSettings KafkaSettings.from_env
        Producer Producer.topic Producer.channels Producer.is_initialised Producer.send Producer.send_json
        Producer.send_bytes Producer.add_header Producer.initialise Producer.checker Producer.log_errors
        Producer.flush Producer.close ProducerChannels ProducerChannels.output ProducerChannels.errors
        ProducerChannels.initialised ProducerChannels.closer ProducerChannels.closed BytesMessage
        ConsumerGroup ConsumerGroup.topic ConsumerGroup.group_name ConsumerGroup.channels
        ConsumerGroup.state ConsumerGroup.is_initialised ConsumerGroup.register_handler
        ConsumerGroup.register_batch_handler ConsumerGroup.start ConsumerGroup.stop
        ConsumerGroup.stop_and_wait ConsumerGroup.state_wait ConsumerGroup.initialise ConsumerGroup.checker
        ConsumerGroup.on_health_update ConsumerGroup.log_errors ConsumerGroup.close ConsumerGroup.use
        ConsumerGroupChannels ConsumerGroupChannels.upstream ConsumerGroupChannels.errors
        ConsumerGroupChannels.initialised ConsumerGroupChannels.consume ConsumerGroupChannels.closer
        ConsumerGroupChannels.closed ConsumerGroupChannels.state State State.INITIALISING State.STOPPED
        State.STARTING State.CONSUMING State.STOPPING State.CLOSING Message Message.data Message.key
        Message.headers Message.topic Message.partition Message.offset Message.timestamp Message.context
        Message.get_header Message.attempt Message.mark Message.commit Message.release
        Message.commit_and_release Message.upstream_done Offset Offset.OLDEST Offset.NEWEST Ordering
        Ordering.PARTITION Ordering.KEY Ordering.NONE RetryPolicy DeadLetter BatchError HandlerError
        DpKafkaError ConfigError NotInitialisedError ClosedError MarshalError QueueFullError Channel
        Channel.put Channel.get Channel.close Channel.closed ChannelClosed TRACE_ID_HEADER
    """,
    "dp_kafka.health": """
        Status Status.OK Status.WARNING Status.CRITICAL CheckState HealthCheck HealthCheck.add_check
        HealthCheck.subscribe HealthCheck.start HealthCheck.stop HealthCheck.to_dict
    """,
    "dp_kafka.avro": "Schema Schema.marshal Schema.unmarshal",
    "dp_kafka.drain": "drain_topics DrainTopicConfig DrainTopicInput DrainResult",
    "dp_kafka.admin": "new_admin TopicAuth TopicAuthList get_acls apply get_principal",
    "dp_kafka.retry": "get_retry_time",
    "dp_kafka.kafkatest": """
        Consumer Producer new_message consumer_group_mock message_mock producer_mock EmbeddedCluster
        EmbeddedCluster.broker_addrs EmbeddedCluster.create_topic EmbeddedCluster.broker_down
        EmbeddedCluster.broker_up EmbeddedCluster.inject_errors EmbeddedCluster.set_latency
        EmbeddedCluster.close
    """,
}


@functools.cache
def names() -> dict[str, public.Name]:
    return {str(name): name for name in public.names()}


@pytest.mark.parametrize("module", PROMISED)
def test_every_name_that_was_promised_is_in_the_reference(module: str) -> None:
    assert [name for name in PROMISED[module].split() if f"{module}.{name}" not in names()] == []


def test_every_public_name_says_what_it_is_what_it_raises_and_refers_to_what_exists() -> None:
    assert list(docstrings.problems(names().values())) == []


@pytest.mark.parametrize("module", public.MODULES)
def test_a_public_module_says_in_its_first_line_what_it_is_for(module: str) -> None:
    docstring = importlib.import_module(module).__doc__
    assert docstring is not None
    assert len(docstring.splitlines()[0]) > 20


class Thin:
    """Raises nothing that it tells of; see `No.such_thing` and `no_such_call()`."""

    def __init__(self, number: int) -> None:
        if number < 0:
            raise ValueError("negative")

    @property
    def silent(self) -> int:
        return 1


Thin.__module__ = Thin.__init__.__module__ = "dp_kafka.thin"


def test_what_is_wrong_with_a_docstring_is_found() -> None:
    docstring = Thin.__doc__
    assert docstring is not None
    thin = public.Name("dp_kafka", "Thin", Thin, docstring)
    silent = public.Name("dp_kafka", "Thin.silent", vars(Thin)["silent"], "", Thin)
    constant = public.Name("dp_kafka", "UNEXPLAINED", 1, "")
    assert list(docstrings.problems([thin, silent, constant])) == [
        "dp_kafka.Thin raises ValueError, and does not say so",
        "dp_kafka.Thin refers to `No.such_thing`, which does not exist",
        "dp_kafka.Thin refers to `no_such_call`, which does not exist",
        "dp_kafka.Thin.silent has no docstring, or its class does not say what `silent` is",
        "dp_kafka.UNEXPLAINED is a constant that the docstring of dp_kafka does not explain",
    ]


def test_a_link_of_the_site_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "here.html").write_text(
        '<p id="place"><a href="#place">here</a> <a href="there.html#spot">there</a> <img src="gone.png">'
        '<a href="there.html#away">a</a> <a href="../outside.html">b</a> <a href="https://pdoc.dev">c</a></p>'
    )
    (tmp_path / "there.html").write_text('<h1 id="spot">There</h1>')
    (tmp_path.parent / "outside.html").write_text("")
    assert list(links.broken(tmp_path.resolve())) == [
        "here.html: a link to gone.png, which the site does not have",
        "here.html: a link to there.html#away, but there is no such place",
        "here.html: a link to ../outside.html, which the site does not have",
    ]
