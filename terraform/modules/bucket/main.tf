resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV_AWS_18: who reads and writes is in the data events of CloudTrail, where an account keeps them
  # checkov:skip=CKV_AWS_144: the other regions hold the same messages, in stores and backups of their own
  # checkov:skip=CKV2_AWS_62: nothing reacts to single objects
  bucket_prefix = "${var.name}-"
  force_destroy = var.force_destroy
  tags          = var.tags
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket     = aws_s3_bucket.this.id
  depends_on = [aws_s3_bucket_versioning.this]

  rule {
    id     = "expire"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
    noncurrent_version_expiration {
      noncurrent_days = coalesce(var.expire_days, 30)
    }
  }

  rule {
    id     = "expire-current"
    status = var.expire_days == null ? "Disabled" : "Enabled"

    filter {
      prefix = var.expire_prefix
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
    expiration {
      # A rule needs a number, also one that does nothing.
      days = coalesce(var.expire_days, 3650)
    }
  }
}

data "aws_iam_policy_document" "this" {
  source_policy_documents = var.statements == null ? [] : [replace(var.statements, "BUCKET", aws_s3_bucket.this.arn)]

  statement {
    sid       = "OnlyTLS"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket     = aws_s3_bucket.this.id
  policy     = data.aws_iam_policy_document.this.json
  depends_on = [aws_s3_bucket_public_access_block.this]
}
