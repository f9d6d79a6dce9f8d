"""Reads Kinesis records with aws_kinesis_agg, or writes them:

    interop.py read RECORDS GROUPS
    interop.py write GROUPS RECORDS

The files are those of frames.go.
"""

import base64
import struct
import sys

from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import iter_deaggregate_records


def field(f):
    head = f.read(4)
    return f.read(struct.unpack(">I", head)[0]) if head else None


def emit(f, value):
    f.write(struct.pack(">I", len(value)) + value)


def read(key, f, out):
    field(f)
    field(f)  # the shard's range, which the library does not look at
    record = {
        "SequenceNumber": "1",
        "PartitionKey": key.decode(),
        "ApproximateArrivalTimestamp": 0,
        "Data": field(f),
    }
    users = [u["kinesis"] for u in iter_deaggregate_records([record], data_format="Boto3")]
    plain = len(users) == 1 and not users[0].get("aggregated")
    out.write(struct.pack(">cI", b"P" if plain else b"A", len(users)))
    for i, user in enumerate(users):
        data = user["data"]
        if not plain:
            assert user["subSequenceNumber"] == i
            data = base64.b64decode(data)
        emit(out, user["partitionKey"].encode())
        emit(out, (user.get("explicitHashKey") or "").encode())
        emit(out, data)


def write(count, f, out):
    aggregator = RecordAggregator()
    for _ in range(count):
        key, explicit, data = field(f).decode(), field(f).decode() or None, field(f)
        if aggregator.add_user_record(key, data, explicit) is not None:
            raise ValueError("the group does not fit into one aggregate")
    key, _, data = aggregator.clear_and_get().get_contents()
    for value in key.encode(), b"", b"", data:
        emit(out, value)


def main():
    mode, source, target = sys.argv[1:]
    with open(source, "rb") as f, open(target, "wb") as out:
        if mode == "read":
            while (key := field(f)) is not None:
                read(key, f, out)
        else:
            while head := f.read(5):
                write(struct.unpack(">cI", head)[1], f, out)


main()
