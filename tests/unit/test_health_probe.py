"""Probing addresses: who counts as a broker that answers, within one deadline, in the clear and with TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dp_kafka.health.probe import Answer, BrokerProbe, Prober
from dp_kafka.health.tls import context_of
from dp_kafka.kafkatest import EmbeddedCluster
from tests.certificates import Pair, make_pair
from tests.unreachable import dead_address, dropping_address, silent_address, talking_address
from tests.waiting import PATIENCE

#: What a broker answers to ApiVersions: length, correlation id, an error code and no APIs.
ANSWER = struct.pack(">iihi", 10, 0x6470, 0, 0)


def probe(address: str, seconds: float = 10.0, **properties: Any) -> Answer:
    settings = {name.replace("_", "."): value for name, value in properties.items()}
    return BrokerProbe(settings)(address, time.monotonic() + seconds)


def test_a_broker_answers(cluster: EmbeddedCluster) -> None:
    (address,) = cluster.broker_addrs
    answer = probe(address)
    assert answer.reachable
    assert answer == Answer()


def test_a_host_name_with_several_addresses_is_tried_at_each(cluster: EmbeddedCluster) -> None:
    """localhost may be ::1 first, where the embedded broker does not listen."""
    port = cluster.broker_addrs[0].rpartition(":")[2]
    assert probe(f"localhost:{port}").reachable


def test_a_port_that_refuses_is_not_reachable() -> None:
    with dead_address() as address:
        assert probe(address).problem == "Connection refused"


def test_a_name_that_does_not_resolve_is_not_reachable() -> None:
    assert not probe("no-such-host.invalid:9092").reachable


def test_the_family_of_the_client_is_kept_to(cluster: EmbeddedCluster) -> None:
    (address,) = cluster.broker_addrs
    assert probe(address, broker_address_family="v4").reachable
    assert not probe(address, broker_address_family="v6").reachable


@pytest.mark.parametrize("nobody", [silent_address, dropping_address])
def test_who_does_not_answer_is_given_up_at_the_deadline(nobody: Any) -> None:
    """A connection is not enough: the kernel of a host takes it for a broker that is stuck."""
    with nobody() as address:
        started = time.monotonic()
        answer = probe(address, seconds=0.3)
        took = time.monotonic() - started
    assert answer == Answer("no answer in time")
    assert 0.25 < took < PATIENCE / 3


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (b"", "the connection was closed without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers is no Kafka broker"),
        (struct.pack(">ii", 1 << 30, 0x6470), "what answers is no Kafka broker"),
        (ANSWER[:-1], "the connection was closed without an answer"),
    ],
)
def test_what_is_no_kafka_broker_is_not_reachable(said: bytes, problem: str) -> None:
    with talking_address(said) as address:
        assert probe(address).problem == problem


def test_one_answer_is_enough() -> None:
    with talking_address(ANSWER) as address:
        assert probe(address).reachable


class Server:
    """Speaks TLS, and answers as a broker does to the first request of each connection."""

    def __init__(self, folder: Path, pair: Pair, clients: Pair | None = None) -> None:
        file = folder / "server.pem"
        file.write_text(pair.cert + pair.key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(file)
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(cadata=clients.cert)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"localhost:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="test:tls", daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                with self._context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(4096)
                    secured.sendall(ANSWER)
                    # Until the client hangs up, as a reset could overtake the answer.
                    secured.recv(1)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture(scope="module")
def authority() -> Pair:
    return make_pair("authority", authority=True)


@pytest.fixture
def server(tmp_path: Path, authority: Pair) -> Iterator[Server]:
    with Server(tmp_path, make_pair("localhost", issuer=authority)) as running:
        yield running


def tls(**properties: Any) -> dict[str, Any]:
    given = {name.replace("_", "."): value for name, value in properties.items()}
    return {"security.protocol": "ssl", "broker.address.family": "v4", **given}


def ask(server: Server, properties: Mapping[str, Any]) -> Answer:
    return BrokerProbe(properties)(server.address, time.monotonic() + 10)


def test_tls_with_the_right_authority(server: Server, authority: Pair) -> None:
    assert ask(server, tls(ssl_ca_pem=authority.cert)).reachable


def test_tls_with_the_authority_in_a_file(server: Server, authority: Pair, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(authority.cert)
    assert ask(server, tls(ssl_ca_location=str(file))).reachable


def test_tls_with_a_wrong_authority_is_named(server: Server) -> None:
    answer = ask(server, tls(ssl_ca_pem=make_pair("other", authority=True).cert))
    assert answer.to_put_right
    assert answer.problem.startswith(f"{server.address}: certificate verify failed: ")


def test_tls_with_the_hosts_authorities_refuses_an_unknown_one(server: Server) -> None:
    assert "certificate verify failed" in ask(server, tls()).problem


def test_tls_with_a_wrong_host_name_is_named(tmp_path: Path, authority: Pair) -> None:
    with Server(tmp_path, make_pair("elsewhere", issuer=authority)) as server:
        answer = ask(server, tls(ssl_ca_pem=authority.cert))
        assert answer.to_put_right
        assert "Hostname mismatch" in answer.problem
        without_name = tls(ssl_ca_pem=authority.cert, ssl_endpoint_identification_algorithm="none")
        assert ask(server, without_name).reachable


def test_tls_that_skips_verification_takes_any_certificate(tmp_path: Path) -> None:
    with Server(tmp_path, make_pair("elsewhere")) as server:
        assert ask(server, tls(enable_ssl_certificate_verification=False)).reachable


def test_tls_shows_the_client_certificate(tmp_path: Path, authority: Pair) -> None:
    """Text and file, as librdkafka takes them."""
    client = make_pair("client", issuer=authority)
    with Server(tmp_path, make_pair("localhost", issuer=authority), clients=authority) as server:
        shown = tls(ssl_ca_pem=authority.cert, ssl_certificate_pem=client.cert, ssl_key_pem=client.key)
        assert ask(server, shown).reachable
        (tmp_path / "cert.pem").write_text(client.cert)
        (tmp_path / "key.pem").write_text(client.encrypted_key(b"pass"))
        in_files = tls(
            ssl_ca_pem=authority.cert,
            ssl_certificate_location=str(tmp_path / "cert.pem"),
            ssl_key_location=str(tmp_path / "key.pem"),
            ssl_key_password="pass",
        )
        assert ask(server, in_files).reachable


def test_tls_without_the_client_certificate_that_the_broker_wants_is_named(
    tmp_path: Path, authority: Pair
) -> None:
    with Server(tmp_path, make_pair("localhost", issuer=authority), clients=authority) as server:
        answer = ask(server, tls(ssl_ca_pem=authority.cert))
        assert answer.to_put_right
        assert "certificate" in answer.problem.lower()


def test_tls_with_a_broker_in_the_clear_is_named(cluster: EmbeddedCluster) -> None:
    with talking_address(b"this is not TLS, whatever you say") as address:
        answer = BrokerProbe(tls())(address, time.monotonic() + 10)
    assert answer.to_put_right
    assert "TLS failed" in answer.problem


def test_tls_that_hangs_in_the_handshake_ends_at_the_deadline() -> None:
    with silent_address() as address:
        started = time.monotonic()
        assert BrokerProbe(tls())(address, started + 0.3) == Answer("no answer in time")
        assert time.monotonic() - started < PATIENCE / 3


def test_certificates_beyond_python_leave_the_connection_to_be_probed(
    cluster: EmbeddedCluster,
) -> None:
    """A PKCS#12 key store: the topic is looked up with it by librdkafka all the same."""
    assert context_of(tls(ssl_keystore_location="/keys.p12")) is None
    properties = tls(ssl_keystore_location="/keys.p12")
    assert BrokerProbe(properties)(cluster.broker_addrs[0], time.monotonic() + 10).reachable


def test_a_certificate_file_that_has_gone_is_a_problem_and_no_crash(server: Server, tmp_path: Path) -> None:
    assert not ask(server, tls(ssl_ca_location=str(tmp_path / "gone.pem"))).reachable


def test_all_addresses_are_asked_at_the_same_time() -> None:
    """Each probe waits for the others to have begun."""
    together = threading.Barrier(5)

    def meet(address: str, until: float) -> Answer:
        together.wait(10)
        return Answer()

    addresses = [f"h:{number}" for number in range(1, 6)]
    answers = dict(Prober(meet).ask(addresses, time.monotonic() + 10))
    assert answers == dict.fromkeys(addresses, Answer())


def test_a_probe_that_fails_is_an_address_that_is_not_reachable() -> None:
    def fail(address: str, until: float) -> Answer:
        raise RuntimeError("no more sockets")

    ((_, answer),) = Prober(fail).ask(["h:1"], time.monotonic() + 10)
    assert answer.problem == "the probe failed with RuntimeError: no more sockets"


def test_a_probe_that_hangs_is_left_behind_and_not_begun_twice() -> None:
    """A name server that does not answer holds up a thread; the next checks must not pile up more."""
    go_on = threading.Event()
    begun = []

    def resolve_for_ever(address: str, until: float) -> Answer:
        begun.append(address)
        if address == "stuck:1":
            go_on.wait(30)
        return Answer()

    prober = Prober(resolve_for_ever)
    try:
        started = time.monotonic()
        # Its deadline has long passed, as the prober sees it: it is a hanging one.
        assert "stuck:1" not in dict(prober.ask(["stuck:1", "well:1"], started - 5))
        answers = dict(prober.ask(["stuck:1", "well:1"], time.monotonic() + 5))
        assert answers["well:1"].reachable
        assert "has not ended" in answers["stuck:1"].problem
        assert begun.count("stuck:1") == 1
        assert time.monotonic() - started < 5
    finally:
        go_on.set()


def test_an_address_whose_thread_could_not_be_started_is_asked_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    prober = Prober(lambda _address, _until: Answer())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuses)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            list(prober.ask(["a:1"], time.monotonic() - PATIENCE))
    assert list(prober.ask(["a:1"], time.monotonic() + PATIENCE)) == [("a:1", Answer())]
