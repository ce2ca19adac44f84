//! Sizes: calls, machines, bytes, streams.

use super::{
    ALL_WAN, DISK, KEPT, LOGGED, LOGS_WAN, NODE, OF_MOST, PLAIN, STORAGE, STORE, STREAMS, Table,
    Tables,
};
use crate::capacity::CostName::{
    HaveBytes, MarkerKeys, NodeFiles, PostKeys, ReactionKeys, StreamKernel, StreamMemory,
    StreamOpen, TailNode, TokenNode,
};
use crate::capacity::show::{bytes, count, duration, money, percent};

impl Tables<'_> {
    pub(super) fn rates(&self) -> Table {
        let it = &self.plan.rates;
        let a_second = |what: &str, rate: f64| self.row(what, format!("{}/s", count(rate)), &[]);
        Table {
            id: "rates",
            title: "Calls, all regions together",
            head: PLAIN,
            rows: vec![
                a_second("calls in the mean of a day", it.mean),
                a_second("calls at the peak", it.peak),
                a_second("messages posted at the peak", it.posts),
                a_second("pages of history read at the peak", it.pages),
                a_second("read markers set at the peak", it.markers),
                a_second("reactions at the peak", it.reactions),
                a_second("writes at the peak: each region stores them all", it.writes),
                a_second("events to open streams at the peak", it.events),
                a_second(
                    "calls that a region answers at the peak, others down",
                    it.peak_of_region,
                ),
                self.row("messages a day", count(it.posts_a_day), &[]),
            ],
        }
    }

    pub(super) fn region(&self) -> Table {
        let (nodes, store) = (&self.plan.nodes, &self.plan.store);
        let whole = |n: f64| count(n);
        let by_memory = STREAMS;
        let both: Vec<_> = NODE.iter().chain(by_memory).copied().collect();
        let processes: Vec<_> = STORAGE.iter().chain(DISK).copied().collect();
        let regions = self.inputs.regions.count;
        Table {
            id: "region",
            title: "One region, sized for the peak while others are down",
            head: PLAIN,
            rows: vec![
                self.row("**nodes**", whole(nodes.each_region), &both),
                self.row("nodes for their processors", whole(nodes.by_cpu), NODE),
                self.row(
                    "nodes for the memory of streams",
                    whole(nodes.by_memory),
                    by_memory,
                ),
                self.row(
                    "nodes for the files that streams are",
                    whole(nodes.by_files),
                    &[NodeFiles],
                ),
                self.row(OF_MOST, percent(nodes.of_most), &both),
                self.row(
                    "processors that they keep busy",
                    count(nodes.busy_cores),
                    NODE,
                ),
                self.row(
                    "of these, reading along what others wrote",
                    count(nodes.tail_cores),
                    &[TailNode],
                ),
                self.row(
                    "**FoundationDB processes**",
                    whole(store.processes),
                    &processes,
                ),
                self.row("stateless processes", whole(store.stateless), STORE),
                self.row("log processes", whole(store.logs), STORE),
                self.row("storage processes", whole(store.storage), &processes),
                self.row(
                    "storage processes for processors",
                    whole(store.storage_by_cpu),
                    STORAGE,
                ),
                self.row(
                    "storage processes for disks",
                    whole(store.storage_by_disk),
                    DISK,
                ),
                self.row(
                    "keys written a second",
                    count(store.keys_a_second),
                    &[PostKeys, MarkerKeys, ReactionKeys],
                ),
                self.row(
                    format!("nodes and processes in all {regions} regions"),
                    format!("{} and {}", whole(nodes.total), whole(store.total)),
                    &processes,
                ),
            ],
        }
    }

    pub(super) fn storage(&self) -> Table {
        let it = &self.plan.store;
        let load = &self.inputs.load;
        let longest = load
            .outage_hours
            .iter()
            .copied()
            .fold(load.log_hours, f64::max);
        Table {
            id: "storage",
            title: "Storage of one region",
            head: PLAIN,
            rows: vec![
                self.row(
                    "messages, markers, reactions a day, one copy",
                    bytes(it.kept_a_day),
                    KEPT,
                ),
                self.row(
                    "logs, feeds and keys of calls a day, one copy",
                    bytes(it.logged_a_day),
                    LOGGED,
                ),
                self.row(
                    format!(
                        "disk that a day adds for good, {} copies",
                        self.inputs.machines.copies
                    ),
                    bytes(it.disk_bytes_a_day),
                    DISK,
                ),
                self.row(
                    format!("logs on disk, {longest} h of them"),
                    bytes(it.log_disk_bytes),
                    DISK,
                ),
                self.row(
                    format!("on disk after {} days", load.history_days),
                    bytes(it.disk_bytes),
                    DISK,
                ),
                self.row("disks to provide", bytes(it.disk_size_bytes), DISK),
            ],
        }
    }

    pub(super) fn wan(&self) -> Table {
        let it = &self.plan.wan;
        Table {
            id: "wan",
            title: "Traffic between regions, all pairs together",
            head: PLAIN,
            rows: vec![
                self.row("logs a day", bytes(it.logs_a_day), LOGS_WAN),
                self.row(
                    "nodes telling each other what they hold, a day",
                    bytes(it.told_a_day),
                    &[HaveBytes],
                ),
                self.row(
                    "both, a month",
                    bytes(it.bytes_a_day * 365.0 / 12.0),
                    ALL_WAN,
                ),
                self.row(
                    "what that costs a month",
                    money(self.plan.bill.wan),
                    ALL_WAN,
                ),
                self.row(
                    "logs that one region receives at the peak",
                    format!("{}bit/s", count(it.peak_in_bits)),
                    LOGS_WAN,
                ),
                self.row("links of one node", count(it.links_of_node), NODE),
            ],
        }
    }

    pub(super) fn connections(&self) -> Table {
        let it = &self.plan.connections;
        Table {
            id: "connections",
            title: "Open streams",
            head: PLAIN,
            rows: vec![
                self.row("all regions", count(it.total), &[]),
                self.row("one region, others down", count(it.each_region), &[]),
                self.row("one node", count(it.each_node), STREAMS),
                self.row(
                    "memory that they take on it",
                    bytes(it.memory_each_node),
                    &[StreamMemory, StreamKernel],
                ),
                self.row("opened anew when regions go down", count(it.reopened), &[]),
                self.row(
                    "that takes, with all processors that are free, at least",
                    duration(it.reopen_seconds),
                    &[StreamOpen, TokenNode],
                ),
            ],
        }
    }
}
