//! From inputs to the sizes of regions: the sums.

use serde::Serialize;

use super::CostName::{
    ApplyFdb, DiskOverhead, EventFdb, EventNode, HaveBytes, LogsShare, NodeFiles, NodeMemory,
    PageFdb, PageNode, ProxyMemory, StatelessShare, StreamIdle, StreamKernel, StreamMemory,
    StreamOpen, TailFdb, TailNode, TokenNode,
};
use super::kind::Kind;
use super::{Costs, Inputs, Invalid};

pub(super) const SECONDS_A_DAY: f64 = 86_400.0;
/// Microseconds of a processor in a second.
pub(super) const CORE_US: f64 = 1e6;
pub(super) const GB: f64 = 1e9;
pub(super) const GIB: f64 = (1u64 << 30) as f64;

/// A node takes so many links from one region (`LINKS_PER_PEER_MAX`), and each node of it makes one.
pub(super) const NODES_MAX: f64 = 64.0;
/// Nodes of a region that pull from others (`GROUPS_MAX`).
pub(super) const PULLING_NODES_MAX: f64 = 8.0;
/// Sent but not acknowledged on one link (`LINK_UNACKED_BYTES_MAX`).
const LINK_CREDIT_BYTES: f64 = (8u64 << 20) as f64;
/// Changes of what a region holds are told at most so often, on each link (`HAVE_INTERVAL`).
const HAVES_A_SECOND: f64 = 20.0;
/// All that a region holds is told so often, on each link (`HEARTBEAT`).
const HEARTBEATS_A_SECOND: f64 = 1.0;
/// One node in each of three zones.
const NODES_MIN: f64 = 3.0;
/// Of the stateless processes, for the same reason as of nodes.
const STATELESS_MIN: f64 = 3.0;

/// Calls a second, in all regions together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// All calls in the mean of a day.
    pub mean: f64,
    /// All calls at the peak.
    pub peak: f64,
    /// Of these, messages.
    pub posts: f64,
    /// Pages of history.
    pub pages: f64,
    /// Read markers.
    pub markers: f64,
    /// Reactions.
    pub reactions: f64,
    /// Posts, markers and reactions: what is stored, and goes to all regions.
    pub writes: f64,
    /// Events to open streams.
    pub events: f64,
    /// Calls that one region answers at the peak while others are down.
    pub peak_of_region: f64,
    /// Messages a day.
    pub posts_a_day: f64,
    /// Writes a day.
    pub writes_a_day: f64,
}

impl Rates {
    pub(super) fn of(inputs: &Inputs) -> Self {
        let load = &inputs.load;
        let a_day = load.daily_users * load.actions_per_user;
        let mean = a_day / SECONDS_A_DAY;
        let peak = mean * load.peak_factor;
        let share = |percent: f64| percent / 100.0;
        let of_writes = share(load.shares.posts + load.shares.markers + load.shares.reactions);
        let writes = peak * of_writes;
        Self {
            mean,
            peak,
            posts: peak * share(load.shares.posts),
            pages: peak * share(load.shares.pages),
            markers: peak * share(load.shares.markers),
            reactions: peak * share(load.shares.reactions),
            writes,
            events: writes * load.listeners,
            peak_of_region: peak / inputs.serving(),
            posts_a_day: a_day * share(load.shares.posts),
            writes_a_day: a_day * of_writes,
        }
    }
}

/// What one region has to do in a second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Demand {
    /// Writes of all regions: each region holds them all.
    pub(super) writes: f64,
    /// Writes that come from other regions.
    pub(super) applied: f64,
    /// Processor time of its nodes, in microseconds, as if there were one.
    pub(super) node_us: f64,
    /// What each further node adds to that: it reads what all have written.
    pub(super) tail_us: f64,
    /// Open streams.
    pub(super) streams: f64,
    /// Processor time of FoundationDB's processes, in microseconds.
    pub(super) store: StoreDemand,
    /// What each node after the first adds to that of storage processes.
    pub(super) store_tail_us: f64,
    /// Bytes of logs that come from other regions.
    pub(super) wan_in: f64,
}

/// Processor time by class of process, in microseconds a second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoreDemand {
    pub(super) stateless: f64,
    pub(super) logs: f64,
    pub(super) storage: f64,
}

impl Demand {
    /// At the peak, while so many regions serve.
    pub(super) fn at_peak(inputs: &Inputs, serving: f64) -> Self {
        let costs = &inputs.costs;
        let rates = Rates::of(inputs);
        let elsewhere = 1.0 - 1.0 / serving;
        let streams = inputs.load.daily_users * inputs.load.online_percent / 100.0 / serving;
        let (mut node_us, mut written_us, mut wan_in) = (0.0, 0.0, 0.0);
        for kind in Kind::ALL {
            let rate = kind.of(&rates);
            let (own, other) = (rate / serving, rate * elsewhere);
            node_us += own * (costs.of(kind.node()) + costs.of(TokenNode));
            node_us += other * costs.of(kind.apply());
            written_us += costs.of(kind.fdb()) * (own + other * costs.of(ApplyFdb));
            wan_in += other * kind.wan_bytes(inputs);
        }
        let pages = rates.pages / serving;
        let events = rates.events / serving;
        node_us += pages * (costs.of(PageNode) + costs.of(TokenNode));
        node_us += events * costs.of(EventNode) + streams * costs.of(StreamIdle);
        let writes = rates.writes;
        Self {
            writes,
            applied: writes * elsewhere,
            node_us,
            tail_us: writes * costs.of(TailNode),
            streams,
            store: StoreDemand::of(inputs, written_us)
                .reading(pages * costs.of(PageFdb) + events * costs.of(EventFdb)),
            store_tail_us: writes * costs.of(TailFdb),
            wan_in,
        }
    }
}

impl StoreDemand {
    /// Of writes that take `us` where there is one copy.
    pub(super) fn of(inputs: &Inputs, us: f64) -> Self {
        let copies = f64::from(inputs.machines.copies);
        let (stateless, logs) = (inputs.costs.of(StatelessShare), inputs.costs.of(LogsShare));
        Self {
            stateless: us * stateless,
            logs: us * logs * copies,
            storage: us * (1.0 - stateless - logs) * copies,
        }
    }

    /// One copy is read.
    fn reading(mut self, us: f64) -> Self {
        self.storage += us;
        self
    }
}

/// The nodes of one region.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nodes {
    /// How many one region needs.
    pub each_region: f64,
    /// For their processors.
    pub by_cpu: f64,
    /// For the memory that streams take.
    pub by_memory: f64,
    /// For the files that streams are.
    pub by_files: f64,
    /// Of the nodes that a region can have; above one more than that are needed.
    pub of_most: f64,
    /// In all regions.
    pub total: f64,
    /// Processors that are busy in one region, at the peak while others are down.
    pub busy_cores: f64,
    /// Of these, for reading along what all have written: it grows with the nodes.
    pub tail_cores: f64,
}

impl Nodes {
    /// For a region with this demand; `None` where each node would only read along.
    pub(super) fn of(inputs: &Inputs, demand: &Demand) -> Option<Self> {
        let machines = &inputs.machines;
        let costs = &inputs.costs;
        let cores_us = machines.node_cores * CORE_US * inputs.utilisation();
        let memory = machines.node_memory_gib * GIB * inputs.utilisation() - costs.of(NodeMemory);
        if cores_us <= demand.tail_us || memory <= 0.0 {
            return None;
        }
        let by_cpu = ((demand.node_us - demand.tail_us) / (cores_us - demand.tail_us)).ceil();
        let by_memory = (demand.streams * stream_bytes(costs) / memory).ceil();
        let by_files = (demand.streams / (costs.of(NodeFiles) * inputs.utilisation())).ceil();
        let each_region = by_cpu.max(by_memory).max(by_files).max(NODES_MIN);
        Some(Self {
            each_region,
            by_cpu: by_cpu.max(1.0),
            by_memory,
            by_files,
            of_most: each_region / NODES_MAX,
            total: each_region * f64::from(inputs.regions.count),
            busy_cores: cores(demand, each_region),
            tail_cores: (each_region - 1.0) * demand.tail_us / CORE_US,
        })
    }
}

/// Memory that an open stream takes on a machine.
pub(super) fn stream_bytes(costs: &Costs) -> f64 {
    costs.of(StreamMemory) + costs.of(ProxyMemory) + costs.of(StreamKernel)
}

/// Processors that the nodes of a region keep busy.
pub(super) fn cores(demand: &Demand, nodes: f64) -> f64 {
    (demand.node_us + (nodes - 1.0) * demand.tail_us) / CORE_US
}

/// FoundationDB in one region.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Store {
    /// Proxies, resolvers and the like.
    pub stateless: f64,
    /// Logs.
    pub logs: f64,
    /// Storage servers.
    pub storage: f64,
    /// Storage servers that processors ask for.
    pub storage_by_cpu: f64,
    /// Storage servers that disks ask for.
    pub storage_by_disk: f64,
    /// All processes of a region.
    pub processes: f64,
    /// In all regions.
    pub total: f64,
    /// Keys written a second, at the peak.
    pub keys_a_second: f64,
    /// Bytes of keys and values that stay, a day.
    pub kept_a_day: f64,
    /// Bytes of keys and values that go with the logs, a day.
    pub logged_a_day: f64,
    /// Bytes on a region's disks after `history_days`, with all copies.
    pub disk_bytes: f64,
    /// Of these, for logs, kept through the longest outage.
    pub log_disk_bytes: f64,
    /// Bytes that a region's disks must have.
    pub disk_size_bytes: f64,
    /// Bytes on a region's disks that a day adds.
    pub disk_bytes_a_day: f64,
    /// Bytes between zones of a region, a day.
    pub zone_bytes_a_day: f64,
    /// Bytes of one full snapshot in a backup after `history_days`: one copy of everything.
    pub backup_bytes: f64,
}

impl Store {
    pub(super) fn of(inputs: &Inputs, demand: &Demand, nodes: f64) -> Self {
        let rates = Rates::of(inputs);
        let (machines, load) = (&inputs.machines, &inputs.load);
        let copies = f64::from(machines.copies);
        let a_day = |bytes: fn(Kind, &Inputs) -> f64| -> f64 {
            let kinds = Kind::ALL.into_iter();
            let seconds = SECONDS_A_DAY / load.peak_factor;
            kinds
                .map(|kind| kind.of(&rates) * seconds * bytes(kind, inputs))
                .sum()
        };
        let (kept_a_day, logged_a_day) = (a_day(Kind::kept_bytes), a_day(Kind::logged_bytes));
        let on_disk = copies * inputs.costs.of(DiskOverhead);
        let longest = load
            .outage_hours
            .iter()
            .copied()
            .fold(load.log_hours, f64::max);
        let log_disk_bytes = logged_a_day * longest / 24.0 * on_disk;
        let disk_bytes = kept_a_day * load.history_days * on_disk + log_disk_bytes;
        let disk_size_bytes = disk_bytes / inputs.utilisation();
        let backup_bytes = kept_a_day * load.history_days + logged_a_day * longest / 24.0;

        let processes = |us: f64| (us / CORE_US / inputs.utilisation()).ceil();
        let stateless = processes(demand.store.stateless).max(STATELESS_MIN);
        let logs = processes(demand.store.logs).max(copies + 1.0);
        let reading_along = (nodes - 1.0) * demand.store_tail_us;
        let storage_by_cpu = processes(demand.store.storage + reading_along);
        let storage_by_disk = (disk_size_bytes / GB / machines.process_disk_gb).ceil();
        let storage = storage_by_cpu.max(storage_by_disk).max(copies);
        let processes = stateless + logs + storage;
        let keys = Kind::ALL.into_iter();
        Self {
            stateless,
            logs,
            storage,
            storage_by_cpu,
            storage_by_disk,
            processes,
            total: processes * f64::from(inputs.regions.count),
            keys_a_second: keys
                .map(|kind| kind.of(&rates) * inputs.costs.of(kind.keys()))
                .sum(),
            kept_a_day,
            logged_a_day,
            disk_bytes,
            log_disk_bytes,
            disk_size_bytes,
            backup_bytes,
            disk_bytes_a_day: kept_a_day * on_disk,
            // To each log and each storage server; of three zones two are others.
            zone_bytes_a_day: (kept_a_day + logged_a_day) * copies * 2.0 * 2.0 / 3.0,
        }
    }
}

/// Traffic between regions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wan {
    /// Bytes of logs a day, over all pairs.
    pub logs_a_day: f64,
    /// Bytes a day in which nodes tell each other what they hold, over all pairs.
    pub told_a_day: f64,
    /// Both.
    pub bytes_a_day: f64,
    /// Bits of logs that one region receives in a second, at the peak with all regions up.
    pub peak_in_bits: f64,
    /// Links of one node.
    pub links_of_node: f64,
    /// The part of what links can have under way that the peak takes.
    pub credit_used: f64,
}

/// How often a node tells on one link how far a log has come: as it grows, and with each heartbeat, after which the
/// next change waits as long as after any other.
pub(super) fn haves_a_second(inputs: &Inputs) -> f64 {
    let mean = Rates::of(inputs).writes / inputs.load.peak_factor;
    let logs = f64::from(inputs.regions.shards) * f64::from(inputs.regions.count);
    (mean / logs + HEARTBEATS_A_SECOND).min(HAVES_A_SECOND)
}

impl Wan {
    pub(super) fn of(inputs: &Inputs, nodes: f64) -> Self {
        let rates = Rates::of(inputs);
        let regions = f64::from(inputs.regions.count);
        let peers = regions - 1.0;
        let a_day = SECONDS_A_DAY / inputs.load.peak_factor;
        let written: f64 = Kind::ALL
            .into_iter()
            .map(|kind| kind.of(&rates) * kind.wan_bytes(inputs))
            .sum();
        // Each node dials each node of each other region; both ends tell what they hold.
        let links = regions * peers * nodes * nodes;
        let shards = f64::from(inputs.regions.shards);
        let told =
            2.0 * links * shards * regions * haves_a_second(inputs) * inputs.costs.of(HaveBytes);
        let logs_a_day = written * a_day * peers;
        let told_a_day = told * SECONDS_A_DAY;
        let all_up = Demand::at_peak(inputs, regions);
        Self {
            logs_a_day,
            told_a_day,
            bytes_a_day: logs_a_day + told_a_day,
            peak_in_bits: all_up.wan_in * 8.0,
            links_of_node: 2.0 * peers * nodes,
            credit_used: all_up.wan_in / credit(inputs, nodes, peers.max(1.0)),
        }
    }
}

/// Bytes a second that a region's links can bring: what they have under way, once a round trip.
pub(super) fn credit(inputs: &Inputs, nodes: f64, peers: f64) -> f64 {
    nodes.min(PULLING_NODES_MAX) * peers * LINK_CREDIT_BYTES / (inputs.regions.rtt_ms / 1000.0)
}

/// Open streams.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Connections {
    /// In all regions, at the peak.
    pub total: f64,
    /// In one region while others are down.
    pub each_region: f64,
    /// On one of its nodes.
    pub each_node: f64,
    /// Memory that they take on it, in bytes.
    pub memory_each_node: f64,
    /// Streams of the regions that go down, which are opened anew in the others.
    pub reopened: f64,
    /// Seconds that this takes, if the processor time that the plan leaves free goes there.
    pub reopen_seconds: f64,
}

impl Connections {
    pub(super) fn of(inputs: &Inputs, demand: &Demand, nodes: &Nodes) -> Self {
        let total = inputs.load.daily_users * inputs.load.online_percent / 100.0;
        let each_node = demand.streams / nodes.each_region;
        let reopened = total * f64::from(inputs.regions.down) / f64::from(inputs.regions.count);
        let all_cores = nodes.each_region * inputs.machines.node_cores;
        let free = (all_cores - nodes.busy_cores) * CORE_US * inputs.serving();
        let open_us = inputs.costs.of(StreamOpen) + inputs.costs.of(TokenNode);
        Self {
            total,
            each_region: demand.streams,
            each_node,
            memory_each_node: each_node * stream_bytes(&inputs.costs),
            reopened,
            reopen_seconds: reopened * open_us / free,
        }
    }
}

/// A region's sizes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sizes {
    pub(super) demand: Demand,
    pub(super) nodes: Nodes,
    pub(super) store: Store,
}

impl Sizes {
    /// For the peak while as many regions are down as planned; `None` where no number of nodes does.
    pub(super) fn of(inputs: &Inputs) -> Option<Self> {
        let demand = Demand::at_peak(inputs, inputs.serving());
        let nodes = Nodes::of(inputs, &demand)?;
        let store = Store::of(inputs, &demand, nodes.each_region);
        Some(Self {
            demand,
            nodes,
            store,
        })
    }

    pub(super) fn planned(inputs: &Inputs) -> Result<Self, Invalid> {
        let sizing = Self::of(inputs).ok_or_else(|| {
            let tail = Demand::at_peak(inputs, inputs.serving()).tail_us / CORE_US;
            Invalid(format!(
                "--node-cores {} with --node-memory-gib {} at --utilisation {} leave nothing for users: \
                 each node reads along what all write, which takes {tail:.1} cores, and needs some \
                 memory at rest; give larger nodes",
                inputs.machines.node_cores,
                inputs.machines.node_memory_gib,
                inputs.machines.utilisation_percent
            ))
        })?;
        let nodes = sizing.nodes.each_region;
        if nodes > NODES_MAX {
            return Err(Invalid(format!(
                "{nodes} nodes of --node-cores {} and --node-memory-gib {} in a region, and links allow \
                 {NODES_MAX}: give larger nodes",
                inputs.machines.node_cores, inputs.machines.node_memory_gib,
            )));
        }
        Ok(sizing)
    }
}
