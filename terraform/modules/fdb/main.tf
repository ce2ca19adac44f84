# The machines are in machines.tf, what they set up at their first start in cloud_init.tf, whom they
# let in in security.tf, what they may in iam.tf.

module "backups" {
  source      = "../bucket"
  name        = "${var.name}-backup"
  kms_key_arn = var.kms_key_arn
  expire_days = var.backup.days
  # Not what says that there is a backup: that is written once.
  expire_prefix = "data/"
  force_destroy = !var.deletion_protection
  tags          = var.tags
}
