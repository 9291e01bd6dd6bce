"""Who waits for the initialisation of a client, or asks for it, before any client is involved."""

from __future__ import annotations

import threading

import pytest

from dp_kafka import ClosedError, NotInitialisedError
from dp_kafka.initialisation import Initialisation
from tests.waiting import PATIENCE, WatchedCondition, in_thread


@pytest.fixture
def initialisation() -> Initialisation:
    made = Initialisation("consumer")
    made._condition = WatchedCondition()
    return made


def waiting(initialisation: Initialisation) -> threading.Event:
    condition = initialisation._condition
    assert isinstance(condition, WatchedCondition)
    return condition.waiting


def test_who_asks_for_a_try_waits_for_one_that_ends_later(initialisation: Initialisation) -> None:
    initialisation.tried(NotInitialisedError("an earlier one"))
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    initialisation.tried(NotInitialisedError("no broker"))
    with pytest.raises(NotInitialisedError, match="no broker"):
        caller.result(PATIENCE)


def test_who_asks_once_it_is_done_does_not_wait(initialisation: Initialisation) -> None:
    initialisation.tried(None)
    initialisation.request(0)
    assert initialisation.wait(0)
    assert not waiting(initialisation).is_set()


def test_what_a_broker_refused_is_the_cause_of_the_error(initialisation: Initialisation) -> None:
    refusal = ValueError("wrong password")
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    initialisation.tried(refusal)
    with pytest.raises(NotInitialisedError, match="wrong password") as raised:
        caller.result(PATIENCE)
    assert raised.value.__cause__ is refusal


def test_a_try_that_does_not_end_in_time_is_an_error(initialisation: Initialisation) -> None:
    with pytest.raises(NotInitialisedError, match="no broker has answered yet"):
        initialisation.request(0)


@pytest.mark.parametrize("end", [Initialisation.close, Initialisation.end])
def test_whoever_waits_is_told_of_the_close(initialisation: Initialisation, end: object) -> None:
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    waiting(initialisation).clear()
    others = in_thread(lambda: initialisation.wait(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    end(initialisation)  # type: ignore[operator]
    with pytest.raises(ClosedError, match="make a new one"):
        caller.result(PATIENCE)
    assert not others.result(PATIENCE)
    initialisation.wait_first_try(PATIENCE)


def test_tries_go_on_while_the_client_closes_until_it_goes(initialisation: Initialisation) -> None:
    initialisation.close()
    assert initialisation.is_wanted()
    client = in_thread(lambda: initialisation.wait_retry(0, PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    initialisation.end()
    client.result(PATIENCE)
    assert not initialisation.is_wanted()


def test_a_request_cuts_the_pause_between_tries_short(initialisation: Initialisation) -> None:
    client = in_thread(lambda: initialisation.wait_retry(0, PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    client.result(PATIENCE)
    initialisation.tried(None)
    caller.result(PATIENCE)


def test_a_request_that_comes_between_a_try_and_its_pause_is_not_forgotten(
    initialisation: Initialisation,
) -> None:
    asked = initialisation.tried(NotInitialisedError("no broker"))
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    initialisation.wait_retry(asked, PATIENCE)
    initialisation.tried(None)
    caller.result(PATIENCE)
