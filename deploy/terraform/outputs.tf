output "stream_arn" {
  description = "For the option stream."
  value       = aws_kinesis_stream.logs.arn
}

output "producer_role_arn" {
  description = "For the option role_arn, or for the service account."
  value       = aws_iam_role.producer.arn
}

output "consumer_policy_arn" {
  description = "To attach to the role of the function that reads the stream."
  value       = aws_iam_policy.consumer.arn
}
