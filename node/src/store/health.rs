//! How the cluster below a shared store is, in the words of its operators.

use serde::Serialize;

/// How a cluster is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Health {
    /// Whether it can commit.
    pub available: bool,
    /// Whether all data has its copies.
    pub healthy: bool,
    /// In its own words, such as `healthy_rebalancing`.
    pub state: String,
    /// Zones that it can lose and still serve; below zero it does not.
    pub zones_to_lose_availability: Option<i64>,
    /// Zones that it can lose without losing data.
    pub zones_to_lose_data: Option<i64>,
    /// Bytes in the longest queue of a log or storage server.
    pub worst_queue_bytes: Option<f64>,
    /// Share of the fullest disk of its processes that is free, 0 to 1.
    pub least_free_disk: Option<f64>,
    /// Backups that run.
    pub backups_running: usize,
    /// How far behind the running backup is that is the most so: what a restore would lack, in seconds.
    pub backup_behind_s: Option<f64>,
    /// What limits how much it takes; `workload` means nothing does.
    pub limited_by: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it wants an operator to know.
    pub messages: Vec<String>,
}

impl Health {
    /// As numbers, each with its name.
    pub fn measures(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let flag = |is: bool| Some(f64::from(u8::from(is)));
        #[expect(clippy::cast_precision_loss, reason = "a handful of zones")]
        let zones = |zones: Option<i64>| zones.map(|zones| zones as f64);
        #[expect(clippy::cast_precision_loss, reason = "a handful of backups")]
        let backups = self.backups_running as f64;
        let limited = self.limited_by.as_ref().map(|name| name != "workload");
        [
            ("available", flag(self.available)),
            ("healthy", flag(self.healthy)),
            (
                "zones_to_lose_availability",
                zones(self.zones_to_lose_availability),
            ),
            ("zones_to_lose_data", zones(self.zones_to_lose_data)),
            ("worst_queue_bytes", self.worst_queue_bytes),
            ("limited", limited.and_then(flag)),
            ("least_free_disk_ratio", self.least_free_disk),
            ("backups_running", Some(backups)),
            ("backup_behind_seconds", self.backup_behind_s),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}
