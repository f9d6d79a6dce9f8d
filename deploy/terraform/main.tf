# A stream for aggregated records, a role that may write to it, and a role that may
# read from it. docs/iam.md describes it.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_kinesis_stream" "logs" {
  name             = var.stream
  shard_count      = var.shards
  retention_period = var.retention_hours

  stream_mode_details {
    stream_mode = var.shards == null ? "ON_DEMAND" : "PROVISIONED"
  }

  encryption_type = var.encrypt ? "KMS" : "NONE"
  kms_key_id      = var.encrypt ? aws_kms_key.logs[0].arn : null
}

resource "aws_kms_key" "logs" {
  count               = var.encrypt ? 1 : 0
  description         = "Encrypts the stream ${var.stream}"
  enable_key_rotation = true
}

# The permissions of the producer: deploy/iam/producer.json and producer-kms.json.
data "aws_iam_policy_document" "producer" {
  statement {
    sid       = "Send"
    actions   = concat(["kinesis:PutRecord"], var.check_stream ? ["kinesis:DescribeStreamSummary"] : [])
    resources = [aws_kinesis_stream.logs.arn]
  }

  dynamic "statement" {
    for_each = aws_kms_key.logs
    content {
      sid       = "Encrypt"
      actions   = ["kms:GenerateDataKey"]
      resources = [statement.value.arn]
      condition {
        test     = "StringEquals"
        variable = "kms:EncryptionContext:aws:kinesis:arn"
        values   = [aws_kinesis_stream.logs.arn]
      }
    }
  }
}

# Who may assume the producer's role: deploy/iam/trust-*.json.
data "aws_iam_policy_document" "producer_trust" {
  dynamic "statement" {
    for_each = var.pod_identity ? [1] : []
    content {
      sid     = "PodIdentity"
      actions = ["sts:AssumeRole", "sts:TagSession"]
      principals {
        type        = "Service"
        identifiers = ["pods.eks.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.producers) > 0 ? [1] : []
    content {
      sid     = "FromAnotherRole"
      actions = ["sts:AssumeRole"]
      principals {
        type        = "AWS"
        identifiers = var.producers
      }
      dynamic "condition" {
        for_each = var.external_id == null ? [] : [var.external_id]
        content {
          test     = "StringEquals"
          variable = "sts:ExternalId"
          values   = [condition.value]
        }
      }
    }
  }
}

resource "aws_iam_role" "producer" {
  name               = "${var.stream}-writer"
  assume_role_policy = data.aws_iam_policy_document.producer_trust.json
}

resource "aws_iam_role_policy" "producer" {
  name   = "write"
  role   = aws_iam_role.producer.id
  policy = data.aws_iam_policy_document.producer.json
}

# The permissions of a Lambda function that reads the stream:
# deploy/iam/consumer-lambda.json and consumer-kms.json.
data "aws_iam_policy_document" "consumer" {
  statement {
    sid = "Stream"
    actions = [
      "kinesis:DescribeStream",
      "kinesis:DescribeStreamSummary",
      "kinesis:ListShards",
      "kinesis:GetShardIterator",
      "kinesis:GetRecords",
    ]
    resources = [aws_kinesis_stream.logs.arn]
  }

  statement {
    sid       = "Streams"
    actions   = ["kinesis:ListStreams"]
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = aws_kms_key.logs
    content {
      sid       = "Decrypt"
      actions   = ["kms:Decrypt"]
      resources = [statement.value.arn]
      condition {
        test     = "StringEquals"
        variable = "kms:EncryptionContext:aws:kinesis:arn"
        values   = [aws_kinesis_stream.logs.arn]
      }
    }
  }
}

resource "aws_iam_policy" "consumer" {
  name   = "${var.stream}-reader"
  policy = data.aws_iam_policy_document.consumer.json
}
