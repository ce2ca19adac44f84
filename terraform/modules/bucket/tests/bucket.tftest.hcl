mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::whimbrel-eu-backups-1" }
  }
}

variables {
  name = "whimbrel-eu-backups"
}

run "a_bucket_is_closed_and_encrypted" {
  command = apply

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
      one(aws_s3_bucket_ownership_controls.this.rule).object_ownership == "BucketOwnerEnforced",
    ])
    error_message = "nothing may make an object public"
  }
  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "objects must be encrypted, also without a key of one's own"
  }
  assert {
    condition = alltrue([for denied in [one(data.aws_iam_policy_document.this.statement)] :
      denied.effect == "Deny" && tolist(denied.actions) == tolist(["s3:*"]) && contains(denied.resources, "arn:aws:s3:::whimbrel-eu-backups-1/*")
      && one(denied.principals).type == "*" && one(denied.condition).variable == "aws:SecureTransport" && tolist(one(denied.condition).values) == tolist(["false"])
    ])
    error_message = "who comes without TLS must be refused, whoever it is"
  }
}

run "data_is_kept_by_default" {
  command = plan

  assert {
    condition     = !aws_s3_bucket.this.force_destroy
    error_message = "a bucket with objects must not go with terraform destroy"
  }
  assert {
    condition     = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Enabled"
    error_message = "what is overwritten or deleted must be kept for a while"
  }
  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.status if rule.id == "expire-current"] == ["Disabled"]
    error_message = "without expire_days no object may expire"
  }
}

run "objects_expire_where_it_is_asked_for" {
  command = plan
  variables {
    expire_days   = 14
    expire_prefix = "logs/"
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.this.rule : [rule.status, one(rule.filter).prefix, tostring(one(rule.expiration).days)] if rule.id == "expire-current"] == [["Enabled", "logs/", "14"]]
    error_message = "objects with the prefix must expire after so many days"
  }
}

run "a_key_of_ones_own" {
  command = plan
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1"
  }

  assert {
    condition     = [for by in one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default : [by.sse_algorithm, by.kms_master_key_id]] == [["aws:kms", "arn:aws:kms:eu-central-1:123456789012:key/1"]]
    error_message = "the key that is given must encrypt"
  }
}

run "bad_variables_are_refused" {
  command = plan
  variables {
    name        = "Whimbrel_EU"
    expire_days = 0
  }
  expect_failures = [var.name, var.expire_days]
}
