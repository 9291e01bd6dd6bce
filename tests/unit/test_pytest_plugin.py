"""The pytest plugin as users have it: what its fixtures give, and what they fail a test for."""

from __future__ import annotations

import pytest

from dp_kafka.kafkatest import plugin
from tests import usertests


def run(pytester: pytest.Pytester, source: str, **outcomes: int) -> pytest.RunResult:
    """Run a user's test module; the outcomes must be these."""
    pytester.makepyfile(source)
    return usertests.run(pytester, **outcomes)


def test_fixtures_on_the_embedded_broker(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import threading
        import pytest
        from dp_kafka import ConsumerGroup, Producer
        from dp_kafka.codecs import JsonCodec

        topics = set()

        @pytest.mark.parametrize("which", [1, 2])
        def test_a_fresh_topic_for_each_test(kafka_topic, which):
            assert kafka_topic not in topics
            topics.add(kafka_topic)

        @pytest.mark.kafkatest(
            partitions=3, consumer={"num_workers": 2}, codec=JsonCodec(), all_committed=True
        )
        def test_round_trip(kafka_cluster, kafka_topic, kafka_producer, kafka_consumer):
            assert type(kafka_consumer) is ConsumerGroup and type(kafka_producer) is Producer
            assert kafka_consumer.topic == kafka_producer.topic == kafka_topic
            seen, done = [], threading.Event()

            def handler(worker, message):
                seen.append((message.partition, message.event))
                if len(seen) == 3:
                    done.set()

            kafka_consumer.register_handler(handler)
            kafka_consumer.start()
            for number in range(3):
                kafka_producer.send_json(number, partition=number)
            assert done.wait(20)
            assert sorted(seen) == [(0, 0), (1, 1), (2, 2)]
            assert any("worker-2" in thread.name for thread in threading.enumerate())
        """,
        passed=3,
    )


def test_fixtures_without_a_broker(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import pytest
        from dp_kafka import kafkatest

        @pytest.mark.kafkatest(
            partitions=2, consumer={"topic": "in"}, producer={"topic": "out"}, all_committed=True
        )
        def test_service(fake_consumer, fake_producer):
            assert type(fake_consumer) is kafkatest.Consumer
            assert (fake_consumer.topic, fake_producer.topic) == ("in", "out")
            fake_consumer.register_handler(lambda worker, message: fake_producer.send_bytes(message.data))
            fake_consumer.start()
            fake_consumer.queue_json({"a": 1}, partition=1)
            assert fake_producer.wait_for_json_message_sent() == {"a": 1}
            fake_consumer.wait_all_committed()
        """,
        passed=1,
    )


def test_a_thread_that_a_test_leaves_fails_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "_THREAD_SECONDS", 0.05)
    result = run(
        pytester,
        """
        from dp_kafka import ProducerConfig
        from dp_kafka.kafkatest import Producer

        made = []

        def test_forgets_to_close(kafka_leftovers):
            made.append(Producer(ProducerConfig(["localhost:9092"], "forgotten")))

        def test_closes_what_the_other_forgot():
            assert made.pop().close() == 0
        """,
        passed=2,
        errors=1,
    )
    result.stdout.fnmatch_lines(["*left threads of dp_kafka behind: dp-kafka:delivery:forgotten*"])


@pytest.mark.parametrize("kind", ["fake_consumer", "kafka_consumer"])
def test_a_message_that_is_not_committed_fails_a_test_that_asks_for_it(
    pytester: pytest.Pytester, kind: str
) -> None:
    result = run(
        pytester,
        f"""
        import pytest
        import threading
        from dp_kafka import HandlerError, Producer, ProducerConfig

        def consume(consumer, cluster):
            failed = threading.Event()

            def handler(worker, message):
                failed.set()
                raise HandlerError("no", commit=False)

            consumer.register_handler(handler)
            consumer.start()
            if cluster is None:
                consumer.queue_bytes(b"")
            else:
                with Producer(ProducerConfig(cluster.broker_addrs, consumer.topic)) as producer:
                    producer.send_bytes(b"")
            assert failed.wait(20)

        @pytest.fixture
        def cluster(request):
            return None if {kind!r} == "fake_consumer" else request.getfixturevalue("kafka_cluster")

        @pytest.mark.kafkatest(all_committed=True)
        def test_asks({kind}, cluster):
            consume({kind}, cluster)

        def test_does_not_ask({kind}, cluster):
            consume({kind}, cluster)
        """,
        passed=2,
        errors=1,
    )
    result.stdout.fnmatch_lines(["*left messages uncommitted, by partition: {0: 1}*"])


def test_messages_that_a_client_could_not_get_rid_of_fail_the_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "_CLOSE_SECONDS", 0.05)
    result = run(
        pytester,
        """
        def test_goes_down(fake_producer):
            fake_producer.cluster.down()
            fake_producer.send_bytes(b"")
        """,
        passed=1,
        errors=1,
    )
    result.stdout.fnmatch_lines(["*Producer of test-topic*closed with 1 messages left in it*"])


def test_the_nearest_mark_counts_and_a_wrong_keyword_is_refused(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        pytestmark = pytest.mark.kafkatest(partitions=2, producer={"topic": "module"})

        @pytest.mark.kafkatest(partitions=3)
        def test_nearest(fake_producer):
            assert len(fake_producer.cluster.partitions_of("module")) == 3

        @pytest.mark.kafkatest(partition=3)
        def test_wrong(fake_producer):
            pass
        """,
        passed=1,
        errors=1,
    )
    result.stdout.fnmatch_lines(["*takes the keywords partitions, consumer, producer*; found partition"])
