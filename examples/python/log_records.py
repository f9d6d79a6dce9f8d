"""Log records in what the plugin writes: in aggregated records, in records without
the KPL envelope (`record_format ndjson`), and in records of other producers.
"""

import base64
import hashlib
import json
import re
import zlib

import zstandard
from aws_kinesis_agg.deaggregator import iter_deaggregate_records

MAGIC = b"\xf3\x89\x9a\xc2"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def log_records(event_record):
    """Returns the log records of a record of a Lambda event as a list of (id, data).

    The ID is a string that identifies the log record, and data its bytes.
    """
    kinesis = event_record["kinesis"]
    data = base64.b64decode(kinesis["data"])
    aggregated = data.startswith(MAGIC)
    users = [data]
    if aggregated:
        users = [base64.b64decode(user["kinesis"]["data"]) for user in iter_deaggregate_records([event_record])]
    source = _source(kinesis, data)
    return [
        (f"{source}/{sub}/{n}", line)
        for sub, user in enumerate(users)
        for n, line in enumerate(_lines(_decompress(user), aggregated))
    ]


def _source(kinesis, data):
    """Identifies a Kinesis record.

    If the plugin sends one twice, the second has the same random partition key and the
    same bytes. Under another key, records with the same bytes may be different ones: the
    sequence number tells them apart.
    """
    if UUID.fullmatch(kinesis["partitionKey"]):
        return kinesis["partitionKey"] + "/" + hashlib.md5(data, usedforsecurity=False).hexdigest()
    return kinesis["sequenceNumber"]


def _decompress(data):
    """Returns data without its compression, which the first bytes tell.

    For `compression snappy`, which they do not tell, use the module cramjam.
    """
    if data.startswith(MAGIC):
        # iter_deaggregate_records passes on what it cannot take apart.
        raise ValueError(f"damaged aggregated record of {len(data)} bytes")
    if data[:4] == b"\x28\xb5\x2f\xfd":
        # The frames of the plugin contain their size.
        return zstandard.ZstdDecompressor().decompress(data)
    head = int.from_bytes(data[:2], "big")
    is_zlib = head >> 8 == 0x78 and head % 31 == 0 and not head & 0x20  # RFC 1950
    if head == 0x1F8B or is_zlib:
        return zlib.decompress(data, wbits=zlib.MAX_WBITS | 32)  # gzip and zlib
    return data


def _lines(data, aggregated):
    """Splits a batch, which ends with a newline, at byte 0A.

    Anything else is one log record. So is text of another producer, unless each of its
    lines is JSON.
    """
    if not data.endswith(b"\n"):
        return [data]
    lines = data[:-1].split(b"\n")
    return lines if aggregated or all(map(_is_json, lines)) else [data]


def _is_json(data):
    try:
        json.loads(data)
        return True
    except ValueError:
        return False


class Handled:
    """Remembers, for the last Kinesis records, how many of their log records are handled.

    It lives as long as this instance of the function.
    """

    def __init__(self):
        self._counts = {}

    def each(self, records, handle):
        """Calls handle(id, data) for the log records of a Kinesis record that are not handled yet."""
        source = records[0][0].rsplit("/", 2)[0]
        for n in range(self._counts.get(source, 0), len(records)):
            handle(*records[n])
            self._counts[source] = n + 1
        if len(self._counts) > 10_000:
            del self._counts[next(iter(self._counts))]  # the oldest
