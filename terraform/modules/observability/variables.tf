variable "name" {
  description = "Start of the names of all resources, such as \"whimbrel-eu\"."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,25}$", var.name))
    error_message = "name is not 1 to 26 of a-z, 0-9 and -, starting with a letter: choose a shorter or plainer one."
  }
}

variable "region" {
  description = "Name of the Whimbrel region; a label of all its metrics."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnets" {
  description = "Private subnets: { zone = { id, cidr } }."
  type        = map(object({ id = string, cidr = string }))

  validation {
    condition     = length(var.subnets) >= 2
    error_message = "subnets are in one zone only: give one in each zone, so that metrics survive the loss of one."
  }
}

variable "node_security_group_id" {
  description = "The group of the nodes, whose admin listener and proxy are read."
  type        = string
}

variable "other_workspaces" {
  description = "Workspaces of other regions that get this region's metrics as well, so that each sees all: list of { endpoint, arn, aws_region }."
  type        = list(object({ endpoint = string, arn = string, aws_region = string }))
  nullable    = false
  default     = []
}

variable "kms_key_arn" {
  description = "Key that encrypts metrics, alerts and dashboards."
  type        = string
}

variable "alert_subscribers" {
  description = "Who is told of alerts: list of { protocol, endpoint }, as SNS knows them. E-mail addresses must confirm. Every region judges all regions: two of them should tell."
  type        = list(object({ protocol = string, endpoint = string }))
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for subscriber in var.alert_subscribers : contains(["email", "https", "sqs", "lambda", "sms"], subscriber.protocol)])
    error_message = "A protocol in alert_subscribers is not email, https, sqs, lambda or sms: alerts go by TLS or inside AWS only."
  }
}

variable "scrape_seconds" {
  description = "Seconds between two readings of a node. The alert rules are written for 15 or less."
  type        = number
  nullable    = false
  default     = 15

  validation {
    condition     = var.scrape_seconds >= 5 && var.scrape_seconds <= 15
    error_message = "scrape_seconds is outside 5 to 15: slower, and alert rules see too little; faster, and nodes are busy with it."
  }
}

variable "ami_id" {
  description = "Image of the machine that reads metrics: Debian 12. Null: Debian's current one for amd64 as of each plan, so that an apply replaces machines when Debian has a newer one: give one in production."
  type        = string
  default     = null
}

variable "instance_type" {
  description = "Type of the machine that reads metrics."
  type        = string
  nullable    = false
  default     = "t3.small"

  validation {
    condition     = var.ami_id != null || !can(regex("^[a-z]+[0-9]+g", var.instance_type))
    error_message = "instance_type \"${var.instance_type}\" has an ARM processor, and without ami_id the image is for amd64: give an image for arm64, or take a type such as t3.small."
  }
}

variable "session_manager" {
  description = "Whether operators can open a shell by AWS Session Manager; there is no SSH."
  type        = bool
  nullable    = false
  default     = true
}

variable "deletion_protection" {
  description = "Whether the bucket with dashboards stays while it holds any."
  type        = bool
  nullable    = false
  default     = true
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  nullable    = false
  default     = {}
}
