import time

import pytest

from headwater.errors import Unavailable
from headwater.online.fetching.breaker import CircuitBreaker


def test_it_opens_after_so_many_failures_in_a_row_and_says_why():
    breaker = CircuitBreaker(2, 60)
    breaker.failed(OSError("refused"))
    breaker.succeeded()
    breaker.failed(OSError("refused"))
    breaker.check()
    breaker.failed(OSError("refused"))
    with pytest.raises(Unavailable, match=r"2 times in a row.*refused"):
        breaker.check()
    assert breaker.open


def test_after_its_rest_one_read_tries_and_closes_it():
    breaker = CircuitBreaker(1, 0.02)
    breaker.failed(OSError("refused"))
    time.sleep(0.03)
    breaker.check()
    with pytest.raises(Unavailable):
        breaker.check()
    breaker.succeeded()
    breaker.check()
    assert not breaker.open


def test_zero_never_opens():
    breaker = CircuitBreaker(0, 60)
    for _ in range(100):
        breaker.failed(OSError("refused"))
        breaker.check()
