variable "cluster" {
  description = "What is the same for all regions, as the module `region` describes it."
  type = object({
    id           = string
    shards       = optional(number, 16)
    domain       = string
    shared_host  = string
    zone_id      = string
    release      = object({ bucket = string, key = string, sha256 = string })
    packages     = object({ server = object({ url = string, sha256 = string }), clients = object({ url = string, sha256 = string }) })
    verify_peers = string
  })
}

variable "certificates" {
  description = "ARNs of the certificates in ACM, by region: each for the region's host and the shared one."
  type        = map(string)

  validation {
    condition     = length(setsubtract(local.regions[*].name, keys(var.certificates))) == 0
    error_message = "certificates lacks ${join(", ", setsubtract(local.regions[*].name, keys(var.certificates)))}: add a certificate for each region."
  }
}

variable "secrets" {
  description = "ARNs of the secrets, by region, as the module `region` describes them."
  type        = map(object({ link = string, fdb_servers = string, fdb_nodes = string, token_keys = string }))

  validation {
    condition     = length(setsubtract(local.regions[*].name, keys(var.secrets))) == 0
    error_message = "secrets lacks ${join(", ", setsubtract(local.regions[*].name, keys(var.secrets)))}: add the secrets of each region."
  }
}

variable "alert_subscribers" {
  description = "Who is told of alerts, by eu and by us: list of { protocol, endpoint }, as SNS knows them. E-mail addresses must confirm."
  type        = list(object({ protocol = string, endpoint = string }))
  nullable    = false
  default     = []
}

check "somebody_is_told" {
  assert {
    condition     = length(var.alert_subscribers) > 0
    error_message = "alert_subscribers is empty, so no alert wakes anybody: name an address or an endpoint of your pager."
  }
}
