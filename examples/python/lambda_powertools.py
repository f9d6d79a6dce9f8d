"""An AWS Lambda function with the batch processor of Powertools for AWS Lambda.

Switch on ReportBatchItemFailures in the event source mapping.
"""

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from log_records import Handled, log_records

processor = BatchProcessor(event_type=EventType.KinesisDataStreams, raise_on_entire_batch_failure=False)
handled = Handled()


def record_handler(record):
    # The data class decodes base64 and takes nothing apart: give log_records the event.
    handled.each(log_records(record.raw_event), handle)


def lambda_handler(event, context):
    return process_partial_response(event, record_handler, processor, context)


def handle(id, data):
    """This function is yours. data is JSON, or what another producer sent; store it under id."""
    print(data.decode(errors="replace"))
