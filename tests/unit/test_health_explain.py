"""What is wrong with certificates is explained on `errors`: now and then, by probes, on its own thread."""

from __future__ import annotations

import logging
import queue
from pathlib import Path

import pytest

from dp_kafka import KafkaClientError, ProducerConfig, SecurityConfig
from dp_kafka.health import BrokerCheck
from dp_kafka.health.explain import AGAIN_SECONDS, Explainer
from dp_kafka.health.lookup import Found
from dp_kafka.health.probe import Answer
from dp_kafka.pulse import is_about_tls
from tests.certificates import make_pair
from tests.tls_listener import Listener
from tests.waiting import PATIENCE, Logged, fields

UNVERIFIED = KafkaClientError("_SSL: certificate verify failed", code=-181, name="_SSL")


class NoLookup:
    def __call__(self, timeout: float) -> Found:
        raise AssertionError("certificates are explained without a look at the topic")

    def close(self) -> None:
        """Nothing to let go."""


def broker_check(answers: dict[str, Answer]) -> BrokerCheck:
    config = ProducerConfig(list(answers), "t", min_brokers_healthy=1)
    return BrokerCheck(config, probe=lambda address, until: answers[address], lookup=NoLookup())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_cause_comes_once_after_the_error_itself_and_is_logged(logged: Logged) -> None:
    errors: queue.Queue[BaseException] = queue.Queue()
    check = broker_check(
        {
            "a:1": Answer("a:1: certificate has expired", to_put_right=True),
            "b:1": Answer("refused"),
            "c:1": Answer("a:1: certificate has expired", to_put_right=True),
            "d:1": Answer(),
        }
    )
    Explainer(errors.put, check, "t")(UNVERIFIED)
    assert errors.get(timeout=PATIENCE) is UNVERIFIED
    explained = errors.get(timeout=PATIENCE)
    assert isinstance(explained, KafkaClientError)
    assert str(explained) == "_SSL: a:1: certificate has expired"
    assert (explained.name, explained.code, explained.__cause__) == ("_SSL", -181, UNVERIFIED)
    record = logged.wait("a broker can't be talked to with these certificates")
    assert record.levelno == logging.ERROR
    assert fields(record)["problem"] == "a:1: certificate has expired"
    assert errors.empty()


def test_the_same_is_explained_again_after_a_minute_only() -> None:
    errors: queue.Queue[BaseException] = queue.Queue()
    clock = Clock()
    check = broker_check({"a:1": Answer("expired", to_put_right=True)})
    explain = Explainer(errors.put, check, "t", clock=clock)
    for _ in range(3):
        explain(UNVERIFIED)
    kinds = [str(errors.get(timeout=PATIENCE)) for _ in range(4)]
    assert kinds.count("_SSL: expired") == 1
    clock.now = AGAIN_SECONDS
    explain(UNVERIFIED)
    assert [str(errors.get(timeout=PATIENCE)) for _ in range(2)] == [str(UNVERIFIED), "_SSL: expired"]
    assert errors.empty()


@pytest.mark.parametrize(
    ("error", "about_tls"),
    [
        (UNVERIFIED, True),
        (
            KafkaClientError(
                "ssl://b: alert bad certificate: SSL alert number 42", code=0, name="_TRANSPORT"
            ),
            True,
        ),
        (KafkaClientError("SSL handshake failed: Disconnected", code=0, name="_TRANSPORT"), True),
        (KafkaClientError("Connection refused", code=0, name="_TRANSPORT"), False),
        (KafkaClientError("wrong password", code=0, name="_AUTHENTICATION"), False),
    ],
)
def test_only_what_is_about_certificates_is_looked_into(error: KafkaClientError, about_tls: bool) -> None:
    assert is_about_tls(error) is about_tls
    if about_tls:
        return
    errors: queue.Queue[BaseException] = queue.Queue()
    check = broker_check({"a:1": Answer("expired", to_put_right=True)})
    explainer = Explainer(errors.put, check, "t")
    explainer(error)
    explainer(ValueError("any other"))
    assert errors.qsize() == 2


def test_a_real_certificate_of_another_host_is_explained(tmp_path: Path) -> None:
    authority = make_pair("authority", authority=True)
    listener = Listener(tmp_path, name=make_pair("elsewhere", issuer=authority))
    try:
        config = ProducerConfig(
            [listener.address],
            "t",
            min_brokers_healthy=1,
            security=SecurityConfig(root_ca_certs=authority.cert),
            librdkafka={"broker.address.family": "v4"},
        )
        (cause,) = BrokerCheck(config).causes()
    finally:
        listener.close()
    assert "certificate is not valid for 'localhost'" in cause
