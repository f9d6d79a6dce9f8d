"""An AWS Lambda function for a stream that the plugin writes.

Switch on ReportBatchItemFailures in the event source mapping.
"""

import sys

from log_records import Handled, log_records

handled = Handled()


def lambda_handler(event, context):
    for record in event["Records"]:
        try:
            handled.each(log_records(record), handle)
        except Exception as err:
            number = record["kinesis"]["sequenceNumber"]
            print(f"record {number}: {err}", file=sys.stderr)
            # Lambda calls again with this record and all after it.
            return {"batchItemFailures": [{"itemIdentifier": number}]}
    return {"batchItemFailures": []}


def handle(id, data):
    """This function is yours. data is JSON, or what another producer sent; store it under id."""
    print(data.decode(errors="replace"))
