"""librdkafka's mock cluster, by ctypes out of the library that confluent-kafka brings.

It speaks the protocol on sockets of its own and fails when told to, which no real broker does.
"""

import ctypes
from pathlib import Path
from typing import Self

import confluent_kafka

PRODUCE = 0
INIT_PRODUCER_ID = 22


def _library() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(folder.glob("librdkafka-*.so*"))))
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, *arguments in (
        ("rd_kafka_new", pointer, number, pointer, text, ctypes.c_size_t),
        ("rd_kafka_destroy", None, pointer),
        ("rd_kafka_conf_new", pointer),
        ("rd_kafka_conf_set", number, pointer, text, text, text, ctypes.c_size_t),
        ("rd_kafka_mock_cluster_new", pointer, pointer, number),
        ("rd_kafka_mock_cluster_destroy", None, pointer),
        ("rd_kafka_mock_cluster_bootstraps", text, pointer),
        ("rd_kafka_mock_clear_request_errors", None, pointer, ctypes.c_int16),
        ("rd_kafka_mock_topic_create", number, pointer, text, number, number),
        ("rd_kafka_mock_broker_set_down", number, pointer, ctypes.c_int32),
        ("rd_kafka_mock_broker_set_up", number, pointer, ctypes.c_int32),
        ("rd_kafka_mock_broker_set_rtt", number, pointer, ctypes.c_int32, number),
        (
            "rd_kafka_mock_push_request_errors_array",
            None,
            pointer,
            ctypes.c_int16,
            ctypes.c_size_t,
            ctypes.POINTER(number),
        ),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockCluster:
    """A cluster of one broker, number 1; topics are made when they are first named."""

    def __init__(self) -> None:
        self._library = _library()
        error = ctypes.create_string_buffer(200)
        settings = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", error, len(error))
        self._handle = self._library.rd_kafka_new(0, settings, error, len(error))
        assert self._handle, error.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        self.bootstrap_servers: str = self._library.rd_kafka_mock_cluster_bootstraps(
            self._cluster
        ).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)

    def create_topic(self, topic: str, partitions: int) -> None:
        assert (
            self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)
            == 0
        )

    def fail_next(self, request: int, *errors: int) -> None:
        """Answer the next requests of a kind with these error codes."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, len(errors), codes
        )

    def fail_no_more(self, request: int) -> None:
        """Forget the error codes that are left for a kind of request."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, request)

    def go_down(self) -> None:
        """Refuse connections."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def come_up(self) -> None:
        self._library.rd_kafka_mock_broker_set_up(self._cluster, 1)

    def answer_after(self, milliseconds: int) -> None:
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, 1, milliseconds)
