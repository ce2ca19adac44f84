//! What FoundationDB says about itself, from `\xff\xff/status/json`:
//! <https://apple.github.io/foundationdb/mr-status.html>

use std::collections::BTreeMap;

use foundationdb::options::TransactionOption;
use serde::Deserialize;

use super::{FoundationDb, error};
use crate::store::{Health, StoreError};

const STATUS_KEY: &[u8] = b"\xff\xff/status/json";

impl FoundationDb {
    /// Asks the cluster how it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if it does not answer, which is an answer as well.
    pub async fn health(&self) -> Result<Health, StoreError> {
        let transaction = self.0.database.create_trx().map_err(error::of_read)?;
        transaction
            .set_option(TransactionOption::ReadSystemKeys)
            .map_err(error::of_read)?;
        let json = transaction
            .get(STATUS_KEY, true)
            .await
            .map_err(error::of_read)?
            .ok_or_else(|| StoreError::Unavailable("FoundationDB has no status".into()))?;
        let status: Status = serde_json::from_slice(&json).map_err(|error| {
            StoreError::Unavailable(format!("FoundationDB's status does not parse: {error}").into())
        })?;
        Ok(status.into())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    client: Client,
    cluster: Cluster,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Client {
    database_status: DatabaseStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DatabaseStatus {
    available: bool,
    healthy: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cluster {
    data: Data,
    fault_tolerance: FaultTolerance,
    qos: Qos,
    processes: BTreeMap<String, Process>,
    layers: Layers,
    messages: Vec<Message>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    state: State,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FaultTolerance {
    max_zone_failures_without_losing_availability: Option<i64>,
    max_zone_failures_without_losing_data: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Qos {
    worst_queue_bytes_log_server: Option<f64>,
    worst_queue_bytes_storage_server: Option<f64>,
    performance_limited_by: Option<LimitedBy>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LimitedBy {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Process {
    version: Option<String>,
    disk: Option<Disk>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Disk {
    free_bytes: f64,
    total_bytes: f64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Layers {
    backup: Backup,
}

/// What the backup agents have written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Backup {
    /// By tag; beside them stands what is no backup.
    tags: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct BackupTag {
    running_backup: bool,
    last_restorable_seconds_behind: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    description: String,
    name: String,
}

impl From<Status> for Health {
    fn from(status: Status) -> Self {
        let Status { client, cluster } = status;
        let qos = cluster.qos;
        let queues = [
            qos.worst_queue_bytes_log_server,
            qos.worst_queue_bytes_storage_server,
        ];
        let tolerance = cluster.fault_tolerance;
        let words = |message: Message| match message.description.as_str() {
            "" => message.name,
            _ => message.description,
        };
        let disks = cluster.processes.values().filter_map(|p| p.disk.as_ref());
        let free = disks
            .filter(|disk| disk.total_bytes > 0.0)
            .map(|disk| disk.free_bytes / disk.total_bytes);
        let backups: Vec<BackupTag> = cluster
            .layers
            .backup
            .tags
            .into_values()
            .filter_map(|tag| serde_json::from_value(tag).ok())
            .filter(|tag: &BackupTag| tag.running_backup)
            .collect();
        let behind = backups
            .iter()
            .filter_map(|tag| tag.last_restorable_seconds_behind);
        Self {
            least_free_disk: free.reduce(f64::min),
            backups_running: backups.len(),
            backup_behind_s: behind.reduce(f64::max),
            available: client.database_status.available,
            healthy: client.database_status.healthy,
            state: cluster.data.state.name,
            zones_to_lose_availability: tolerance.max_zone_failures_without_losing_availability,
            zones_to_lose_data: tolerance.max_zone_failures_without_losing_data,
            worst_queue_bytes: queues.into_iter().flatten().reduce(f64::max),
            limited_by: qos.performance_limited_by.map(|limit| limit.name),
            version: cluster.processes.into_values().find_map(|p| p.version),
            messages: cluster.messages.into_iter().map(words).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_far_as_it_goes() {
        let text = r#"{
            "client": {"database_status": {"available": true, "healthy": true}},
            "cluster": {
                "data": {"state": {"healthy": true, "name": "healthy"}},
                "fault_tolerance": {
                    "max_zone_failures_without_losing_availability": 1,
                    "max_zone_failures_without_losing_data": 2
                },
                "messages": [{"name": "slow", "description": "a disk is slow"}],
                "processes": {
                    "a": {"version": "7.3.63", "disk": {"free_bytes": 30, "total_bytes": 40}},
                    "b": {"version": "7.3.63", "disk": {"free_bytes": 10, "total_bytes": 40}}
                },
                "layers": {"_valid": true, "backup": {"tags": {
                    "default": {"running_backup": true, "last_restorable_seconds_behind": 12.5},
                    "old": {"running_backup": false, "last_restorable_seconds_behind": 900000.0},
                    "timestamp": 1700000000.5
                }}},
                "qos": {
                    "performance_limited_by": {"name": "workload", "reason_id": 2},
                    "worst_queue_bytes_log_server": 10,
                    "worst_queue_bytes_storage_server": 20.5
                }
            }
        }"#;
        let health: Health = serde_json::from_str::<Status>(text).unwrap().into();
        let expected = Health {
            available: true,
            healthy: true,
            state: "healthy".into(),
            zones_to_lose_availability: Some(1),
            zones_to_lose_data: Some(2),
            worst_queue_bytes: Some(20.5),
            least_free_disk: Some(0.25),
            backups_running: 1,
            backup_behind_s: Some(12.5),
            limited_by: Some("workload".into()),
            version: Some("7.3.63".into()),
            messages: vec!["a disk is slow".into()],
        };
        assert_eq!(health, expected);
        let none: Health = serde_json::from_str::<Status>("{}").unwrap().into();
        assert_eq!(none, Health::default());
    }
}
