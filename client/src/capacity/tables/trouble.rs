//! What fills up, regions that were away, many more users.

use super::{DISK, LOGS_WAN, NODE, OF_MOST, STORAGE, STORE, STREAMS, Table, Tables};
use crate::capacity::CostName::{self, MarkerApply, PostApply, ReactionApply, TailNode};
use crate::capacity::show::{bytes, count, duration, percent};
use crate::capacity::{DrainLimit, Resource};

impl Tables<'_> {
    pub(super) fn limits(&self) -> Table {
        let uses = self.plan.uses.iter().map(|it| {
            vec![
                resource(it.resource).to_owned(),
                percent(it.planned),
                percent(it.all_up),
                percent(it.after_spike),
                match it.resource {
                    Resource::ReadingAlong => "larger nodes",
                    Resource::Links => "nothing: credit is fixed",
                    _ => "more machines",
                }
                .to_owned(),
                self.stands_on(resource_costs(it.resource)),
            ]
        });
        Table {
            id: "limits",
            title: "How full it is at the peak",
            head: &[
                "what",
                "others down",
                "all up",
                "all up, after the spike",
                "more of it by",
                "stands on",
            ],
            rows: uses.collect(),
        }
    }

    pub(super) fn outages(&self) -> Table {
        let apply: Vec<_> = [PostApply, MarkerApply, ReactionApply]
            .iter()
            .chain(STORE)
            .copied()
            .collect();
        let rows = self.plan.outages.iter().map(|it| {
            let (limit, names): (_, &[CostName]) = match it.limit {
                DrainLimit::PullingNodes => (
                    "processors of the nodes that pull",
                    &[PostApply, MarkerApply, ReactionApply],
                ),
                DrainLimit::Stateless => ("FoundationDB's stateless processes", &apply),
                DrainLimit::Logs => ("FoundationDB's logs", &apply),
                DrainLimit::Storage => ("FoundationDB's storage", &apply),
                DrainLimit::Links => ("what links have under way", LOGS_WAN),
            };
            vec![
                format!("{} h", it.hours),
                count(it.ops),
                bytes(it.wan_bytes),
                bytes(it.kept_bytes),
                format!("{}/s, {limit}", count(it.ops_a_second)),
                duration(it.drain_seconds),
                if it.by_log {
                    "logs"
                } else {
                    "snapshots: logs are kept 720 h"
                }
                .to_owned(),
                self.stands_on(names),
            ]
        });
        Table {
            id: "outages",
            title: "A region that was away from the peak on",
            head: &[
                "away for",
                "writes it lacks",
                "on the way",
                "logs kept for it, one copy",
                "taken in, and what limits it",
                "has all after",
                "by",
                "stands on",
            ],
            rows: rows.collect(),
        }
    }

    pub(super) fn spike(&self) -> Table {
        let head = &["what", "how much", "stands on"];
        let title = "Users multiply overnight";
        let Some(it) = &self.plan.spike else {
            let what = format!("{} times the users", self.inputs.load.spike);
            let rows = vec![self.row(what, "no machine is large enough".to_owned(), NODE)];
            return Table {
                id: "spike",
                title,
                head,
                rows,
            };
        };
        let (nodes, store, machines) = (&self.plan.nodes, &self.plan.store, &self.inputs.machines);
        let of = |now: f64, then: f64| format!("{} to {}", count(now), count(then));
        let cores = match it.node_cores > machines.node_cores {
            true => format!(
                ", of {} cores instead of {}",
                it.node_cores, machines.node_cores
            ),
            false => String::new(),
        };
        let first = resource_costs(it.first);
        let nodes_on: Vec<_> = NODE.iter().chain(STREAMS).copied().collect();
        let calls: Vec<_> = NODE.iter().chain(STORAGE).copied().collect();
        Table {
            id: "spike",
            title,
            head,
            rows: vec![
                self.row("users", format!("{} times", it.times), &[]),
                self.row(
                    format!("full first: {}", resource(it.first)),
                    format!("at {} times", count(it.first_at)),
                    first,
                ),
                self.row(
                    "streams that find room",
                    format!("{}%", count(it.streams_percent)),
                    STREAMS,
                ),
                self.row(
                    "calls that are answered at the peak; others get 503",
                    format!("{}%", count(it.answered_percent)),
                    &calls,
                ),
                self.row(
                    "1. nodes in each region",
                    of(nodes.each_region, it.nodes) + &cores,
                    &nodes_on,
                ),
                self.row(
                    "2. stateless processes",
                    of(store.stateless, it.stateless),
                    STORE,
                ),
                self.row("3. log processes", of(store.logs, it.logs), STORE),
                self.row(
                    "4. storage processes, for processors",
                    of(store.storage_by_cpu, it.storage),
                    STORAGE,
                ),
                self.row(
                    "5. disks: full after",
                    duration(it.disk_days * 86_400.0),
                    DISK,
                ),
                self.row(OF_MOST, percent(it.nodes_of_most), &nodes_on),
            ],
        }
    }
}

fn resource(resource: Resource) -> &'static str {
    match resource {
        Resource::NodeMemory => "memory of nodes (streams)",
        Resource::NodeProcessors => "processors of nodes",
        Resource::Stateless => "FoundationDB's stateless processes",
        Resource::Logs => "FoundationDB's logs",
        Resource::Storage => "processors of FoundationDB's storage",
        Resource::Links => "what links can have under way",
        Resource::ReadingAlong => "a node's processors, for reading along",
    }
}

fn resource_costs(resource: Resource) -> &'static [CostName] {
    match resource {
        Resource::NodeMemory => STREAMS,
        Resource::NodeProcessors => NODE,
        Resource::Stateless | Resource::Logs => STORE,
        Resource::Storage => STORAGE,
        Resource::Links => LOGS_WAN,
        Resource::ReadingAlong => &[TailNode],
    }
}
