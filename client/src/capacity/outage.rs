//! What waits for a region that is away, and how long it takes to bring.

use serde::Serialize;

use super::CostName::ApplyFdb;
use super::Inputs;
use super::kind::Kind;
use super::plan::{CORE_US, PULLING_NODES_MAX, Rates, Sizes, StoreDemand, credit};

/// Logs are kept so long for a region that is away (the default of `retention.max_s`); after that it
/// takes snapshots.
const RETENTION_MAX_HOURS: f64 = 720.0;

/// One region away for some time, from the peak on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outage {
    /// How long.
    pub hours: f64,
    /// Writes that it lacks then: those of all others.
    pub ops: f64,
    /// Their bytes on the way to it.
    pub wan_bytes: f64,
    /// Logs that wait for it in each region that is left: bytes of keys and values.
    pub kept_bytes: f64,
    /// Writes a second that it can take in, beside its share of the peak.
    pub ops_a_second: f64,
    /// What it cannot do faster.
    pub limit: DrainLimit,
    /// Seconds until it has all.
    pub drain_seconds: f64,
    /// Whether logs are kept for it so long; else it takes snapshots.
    pub by_log: bool,
}

/// What limits how fast a region takes in what it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainLimit {
    /// The nodes that pull.
    PullingNodes,
    /// FoundationDB's stateless processes.
    Stateless,
    /// FoundationDB's logs.
    Logs,
    /// FoundationDB's storage servers.
    Storage,
    /// What links have under way.
    Links,
}

impl Outage {
    pub(super) fn of(inputs: &Inputs, sizes: &Sizes, hours: f64) -> Self {
        let rates = Rates::of(inputs);
        // From the peak on; but a day has no more than a day's writes.
        let days = (hours / 24.0).ceil();
        let a_day = rates.writes_a_day;
        let ops = (rates.writes * hours * 3600.0).min(a_day * days);
        let mean = |each: &dyn Fn(Kind) -> f64| {
            let sum: f64 = Kind::ALL
                .iter()
                .map(|kind| kind.of(&rates) * each(*kind))
                .sum();
            sum / rates.writes
        };
        let wan_each = mean(&|kind| kind.wan_bytes(inputs));
        let logged_each = mean(&|kind| kind.logged_bytes(inputs));

        // What the target leaves free, of those parts that take part.
        let free = 1.0 - inputs.utilisation();
        let pulling = sizes.nodes.each_region.min(PULLING_NODES_MAX);
        let apply_us = mean(&|kind| inputs.costs.of(kind.apply()));
        let fdb_us = mean(&|kind| inputs.costs.of(kind.fdb())) * inputs.costs.of(ApplyFdb);
        let of_store = StoreDemand::of(inputs, fdb_us);
        let peers = f64::from(inputs.regions.count - 1).max(1.0);
        let rate = |processors: f64, us: f64| processors * free * CORE_US / us;
        let limits = [
            (
                DrainLimit::PullingNodes,
                rate(pulling * inputs.machines.node_cores, apply_us),
            ),
            (
                DrainLimit::Stateless,
                rate(sizes.store.stateless, of_store.stateless),
            ),
            (DrainLimit::Logs, rate(sizes.store.logs, of_store.logs)),
            (
                DrainLimit::Storage,
                rate(sizes.store.storage, of_store.storage),
            ),
            (
                DrainLimit::Links,
                credit(inputs, sizes.nodes.each_region, peers) * free / wan_each,
            ),
        ];
        let slowest = limits.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let (limit, ops_a_second) = slowest.expect("there are five");
        Self {
            hours,
            ops,
            wan_bytes: ops * wan_each,
            kept_bytes: ops * logged_each,
            ops_a_second,
            limit,
            drain_seconds: ops / ops_a_second,
            // Its lag only shrinks once it is back.
            by_log: hours <= RETENTION_MAX_HOURS,
        }
    }
}
