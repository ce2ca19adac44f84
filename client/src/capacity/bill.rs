//! What it costs.

use serde::Serialize;

use super::CostName::{AnswerClient, EventClient, PageClient, TokenClient};
use super::Inputs;
use super::plan::{GB, Rates, SECONDS_A_DAY, Sizes, Wan};

/// Of a month: a twelfth of a year.
const DAYS: f64 = 365.0 / 12.0;
const HOURS: f64 = DAYS * 24.0;

/// A month of all regions, once the stores hold `history_days`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// Nodes.
    pub nodes: f64,
    /// FoundationDB's processes.
    pub processes: f64,
    /// Disks.
    pub disks: f64,
    /// Traffic between regions.
    pub wan: f64,
    /// Traffic between zones.
    pub zones: f64,
    /// Traffic to clients.
    pub clients: f64,
    /// Backups of the stores.
    pub backups: f64,
    /// What address translation takes for the traffic between regions.
    pub nat: f64,
    /// All of it.
    pub total: f64,
    /// For a million messages.
    pub million_messages: f64,
    /// For a million calls.
    pub million_calls: f64,
    /// For a thousand daily users.
    pub thousand_users: f64,
    /// Bytes to clients a day.
    pub client_bytes_a_day: f64,
}

impl Bill {
    pub(super) fn of(inputs: &Inputs, sizes: &Sizes, wan: &Wan) -> Self {
        let (prices, rates) = (&inputs.prices, Rates::of(inputs));
        let regions = f64::from(inputs.regions.count);
        let client_bytes_a_day =
            client_bytes(inputs, &rates) * SECONDS_A_DAY / inputs.load.peak_factor;
        let traffic = |bytes_a_day: f64, price: f64| bytes_a_day * DAYS / GB * price;
        let nodes = sizes.nodes.total * prices.node_hour * HOURS;
        let processes = sizes.store.total * prices.process_hour * HOURS;
        let disks = sizes.store.disk_size_bytes / GB * regions * prices.disk_gb_month;
        let between_regions = traffic(wan.bytes_a_day, prices.wan_gb);
        let zones = traffic(sizes.store.zone_bytes_a_day * regions, prices.zone_gb);
        let clients = traffic(client_bytes_a_day, prices.client_gb);
        let snapshots = f64::from(inputs.machines.backup_snapshots);
        let backups = sizes.store.backup_bytes / GB * snapshots * regions * prices.backup_gb_month;
        let nat = traffic(wan.bytes_a_day, prices.nat_gb);
        let total = nodes + processes + disks + between_regions + zones + clients + backups + nat;
        let calls_a_day = rates.mean * SECONDS_A_DAY;
        Self {
            nodes,
            processes,
            disks,
            wan: between_regions,
            zones,
            clients,
            backups,
            nat,
            total,
            million_messages: total / (rates.posts_a_day * DAYS / 1e6),
            million_calls: total / (calls_a_day * DAYS / 1e6),
            thousand_users: total / (inputs.load.daily_users / 1e3),
            client_bytes_a_day,
        }
    }
}

/// Bytes to clients in a second at the peak.
fn client_bytes(inputs: &Inputs, rates: &Rates) -> f64 {
    let costs = &inputs.costs;
    // An event's token names all logs.
    let logs = f64::from(inputs.regions.shards * inputs.regions.count);
    let event = costs.of(EventClient) + costs.of(TokenClient) * logs;
    rates.writes * costs.of(AnswerClient)
        + rates.pages * costs.of(PageClient)
        + rates.events * event
}
