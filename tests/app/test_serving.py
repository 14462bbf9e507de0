"""The port and the address."""

import socket

import pytest

from sam_train.app.serving import take_port
from sam_train.errors import InputError


def test_a_port_in_use_is_told():
    with take_port("127.0.0.1", 0) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"port={number}: cannot be taken at host=127.0.0.1 \(Address already in"):
            take_port("127.0.0.1", number)


def test_any_free_port_of_this_machine_alone_is_taken():
    with take_port("127.0.0.1", 0) as one, take_port("127.0.0.1", 0) as other:
        assert one.getsockname() != other.getsockname()
        assert one.getsockname()[0] == "127.0.0.1"


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(InputError, match=r"192\.0\.2\.1"):
        take_port("192.0.2.1", 0)


def test_a_request_before_the_server_is_ready_waits():
    with take_port("127.0.0.1", 0) as taken, socket.create_connection(taken.getsockname(), timeout=5) as waiting:
        assert waiting.getpeername() == taken.getsockname()
