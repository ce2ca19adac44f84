variable "name" {
  description = "Start of the bucket's name; AWS appends what makes it unique. Up to 36 of a-z, 0-9 and -."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,35}$", var.name))
    error_message = "name is not 1 to 36 of a-z, 0-9 and -: choose a shorter or plainer one."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the objects. Null: the service's own key, for writers that cannot use another one."
  type        = string
  default     = null
}

variable "expire_days" {
  description = "Days after which objects, and versions that were replaced, are removed. Null: never; replaced versions after 30."
  type        = number
  default     = null

  validation {
    condition     = var.expire_days == null || try(var.expire_days >= 1 && floor(var.expire_days) == var.expire_days, false)
    error_message = "expire_days is no whole number from 1 on: give days, or leave it out to keep all objects."
  }
}

variable "expire_prefix" {
  description = "What the names of the objects begin with that are removed after `expire_days`."
  type        = string
  nullable    = false
  default     = ""
}

variable "statements" {
  description = "JSON of a policy document whose statements are added to the bucket's policy: services that write to it. Its resources name the bucket as `BUCKET`."
  type        = string
  default     = null
}

variable "force_destroy" {
  description = "Whether `terraform destroy` removes the bucket with all that is in it."
  type        = bool
  nullable    = false
  default     = false
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  nullable    = false
  default     = {}
}
