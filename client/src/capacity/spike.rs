//! What fills up, and what breaks first when users multiply overnight.

use serde::Serialize;

use super::CostName::NodeMemory;
use super::Inputs;
use super::plan::{CORE_US, Demand, GIB, NODES_MAX, Sizes, cores, credit, stream_bytes};

/// What a plan fills, and how much of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Use {
    /// What.
    pub resource: Resource,
    /// The part of it that is used at the peak, while as many regions are down as planned.
    pub planned: f64,
    /// The same with all regions up.
    pub all_up: f64,
    /// With all regions up, after the spike.
    pub after_spike: f64,
}

/// Something that a region has, or can have, so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Memory of nodes: streams.
    NodeMemory,
    /// Processors of nodes.
    NodeProcessors,
    /// FoundationDB's stateless processes.
    Stateless,
    /// FoundationDB's logs.
    Logs,
    /// Processors of FoundationDB's storage servers.
    Storage,
    /// What links can have under way. No machine adds to it beyond eight nodes.
    Links,
    /// Processors of a node, for reading along what all write. No node adds to it.
    ReadingAlong,
}

/// A spike overnight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spike {
    /// Users, over those of yesterday.
    pub times: f64,
    /// What is full first, and at how many times the planned load with all regions up.
    pub first: Resource,
    /// See `first`.
    pub first_at: f64,
    /// Calls that are answered at the peak until something is added, in percent. The rest is shed.
    pub answered_percent: f64,
    /// Streams that find memory until nodes are added, in percent. Nothing sheds the rest.
    pub streams_percent: f64,
    /// Days until the disks are full then, from what the plan leaves free.
    pub disk_days: f64,
    /// Processors of a node that are enough then; more than planned where reading along asks for it.
    pub node_cores: f64,
    /// Nodes of a region then.
    pub nodes: f64,
    /// Of the nodes that a region can have.
    pub nodes_of_most: f64,
    /// Of FoundationDB then, for processors.
    pub stateless: f64,
    /// See `stateless`.
    pub logs: f64,
    /// See `stateless`.
    pub storage: f64,
}

/// All that fills up, the fullest after the spike first.
pub(super) fn uses(inputs: &Inputs, sizes: &Sizes) -> Vec<Use> {
    let all = f64::from(inputs.regions.count);
    let spiked = spiked(inputs);
    let planned = shares(inputs, sizes, &sizes.demand);
    let all_up = shares(inputs, sizes, &Demand::at_peak(inputs, all));
    let after = shares(inputs, sizes, &Demand::at_peak(&spiked, all));
    let mut uses: Vec<Use> = planned
        .into_iter()
        .zip(all_up)
        .zip(after)
        .map(
            |(((resource, planned), (_, all_up)), (_, after_spike))| Use {
                resource,
                planned,
                all_up,
                after_spike,
            },
        )
        .collect();
    uses.sort_by(|a, b| b.after_spike.total_cmp(&a.after_spike));
    uses
}

fn spiked(inputs: &Inputs) -> Inputs {
    let mut spiked = inputs.clone();
    spiked.load.daily_users *= inputs.load.spike;
    spiked
}

/// What a demand takes of what was sized.
fn shares(inputs: &Inputs, sizes: &Sizes, demand: &Demand) -> [(Resource, f64); 7] {
    let (nodes, store) = (sizes.nodes.each_region, &sizes.store);
    let machines = &inputs.machines;
    let streams = demand.streams / nodes * stream_bytes(&inputs.costs);
    let memory = streams + inputs.costs.of(NodeMemory);
    let reading = demand.store.storage + (nodes - 1.0) * demand.store_tail_us;
    let peers = f64::from(inputs.regions.count - 1).max(1.0);
    [
        (
            Resource::NodeMemory,
            memory / (machines.node_memory_gib * GIB),
        ),
        (
            Resource::NodeProcessors,
            cores(demand, nodes) / (nodes * machines.node_cores),
        ),
        (
            Resource::Stateless,
            demand.store.stateless / CORE_US / store.stateless,
        ),
        (Resource::Logs, demand.store.logs / CORE_US / store.logs),
        (Resource::Storage, reading / CORE_US / store.storage),
        (
            Resource::Links,
            demand.wan_in / credit(inputs, nodes, peers),
        ),
        (
            Resource::ReadingAlong,
            demand.tail_us / CORE_US / machines.node_cores,
        ),
    ]
}

impl Spike {
    /// Of what fills up, the fullest first.
    pub(super) fn of(inputs: &Inputs, sizes: &Sizes, uses: &[Use]) -> Option<Self> {
        let fullest = uses.first()?;
        let free = sizes.store.disk_size_bytes - sizes.store.disk_bytes;
        // Machines of the same kind, or twice as large, until they are enough.
        let mut larger = spiked(inputs);
        let enough = loop {
            match Sizes::of(&larger) {
                Some(enough) if enough.nodes.by_cpu.max(enough.nodes.by_memory) <= NODES_MAX => {
                    break enough;
                }
                _ if larger.machines.node_cores > 1024.0 => return None,
                _ => {
                    larger.machines.node_cores *= 2.0;
                    larger.machines.node_memory_gib *= 2.0;
                }
            }
        };
        let fits = |counts: &dyn Fn(Resource) -> bool| {
            let counting = uses.iter().filter(|it| counts(it.resource));
            let fullest = counting.map(|it| it.after_spike).fold(1.0, f64::max);
            100.0 / fullest
        };
        Some(Self {
            times: inputs.load.spike,
            first: fullest.resource,
            first_at: 1.0 / fullest.all_up,
            answered_percent: fits(&|resource| {
                !matches!(resource, Resource::NodeMemory | Resource::Links)
            }),
            streams_percent: fits(&|resource| resource == Resource::NodeMemory),
            disk_days: free / (sizes.store.disk_bytes_a_day * inputs.load.spike),
            node_cores: larger.machines.node_cores,
            nodes: enough.nodes.each_region,
            nodes_of_most: enough.nodes.of_most,
            stateless: enough.store.stateless,
            logs: enough.store.logs,
            storage: enough.store.storage_by_cpu,
        })
    }
}
