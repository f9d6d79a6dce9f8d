"""An AWS Lambda function for a stream that the plugin writes.

requirements.txt pins the modules.
"""

import base64
import json
import zlib

import zstandard
from aws_kinesis_agg.deaggregator import iter_deaggregate_records


def decompress(data):
    """Returns a user record without its compression, which the first bytes tell.

    For `compression snappy`, which they do not tell, use the module cramjam.
    """
    if data[:4] == b"\xf3\x89\x9a\xc2":
        # iter_deaggregate_records passes on what it cannot take apart.
        raise ValueError(f"damaged aggregated record of {len(data)} bytes")
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().decompress(data)
    if data[:2] == b"\x1f\x8b" or data[:1] == b"\x78":
        return zlib.decompress(data, wbits=zlib.MAX_WBITS | 32)  # gzip and zlib
    return data


def lines(data):
    """Returns the log records of a user record: a batch of `batch_size`, or a single one."""
    return data.removesuffix(b"\n").split(b"\n")


def lambda_handler(event, context):
    # A Kinesis record that is not aggregated is passed on as it is.
    for record in iter_deaggregate_records(event["Records"]):
        for line in lines(decompress(base64.b64decode(record["kinesis"]["data"]))):
            handle(json.loads(line))


def handle(record):
    """This function is yours."""
    print(json.dumps(record, ensure_ascii=False, separators=(",", ":")))
