variable "stream" {
  description = "Name of the stream."
  type        = string
  default     = "logs"
}

variable "shards" {
  description = "Number of shards, or null for an on-demand stream."
  type        = number
  default     = 2
}

variable "retention_hours" {
  description = "Hours that Kinesis keeps records: 24 to 8760."
  type        = number
  default     = 24
}

variable "encrypt" {
  description = "Encrypt the stream with a key of its own."
  type        = bool
  default     = true
}

variable "check_stream" {
  description = "Allow what the option check_stream of the plugin needs."
  type        = bool
  default     = false
}

variable "pod_identity" {
  description = "Let EKS Pod Identity assume the producer's role."
  type        = bool
  default     = true
}

variable "producers" {
  description = "ARNs of roles, for example of another account, that may assume the producer's role (option role_arn)."
  type        = list(string)
  default     = []
}

variable "external_id" {
  description = "What the roles in producers must pass (option external_id), or null."
  type        = string
  default     = null
}
