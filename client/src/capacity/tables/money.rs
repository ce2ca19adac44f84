//! What it costs, and what makes it cheaper.

use super::{ALL_WAN, CLIENTS, DISK, KEPT, LOGGED, NODE, PLAIN, STORAGE, Table, Tables};
use crate::capacity::CostName::{self, StreamMemory};
use crate::capacity::show::{bytes, count, money, percent};

impl Tables<'_> {
    pub(super) fn bill(&self) -> Table {
        let it = &self.plan.bill;
        let memory: Vec<_> = NODE.iter().chain(&[StreamMemory]).copied().collect();
        let processes: Vec<_> = STORAGE.iter().chain(DISK).copied().collect();
        let all: Vec<_> = processes
            .iter()
            .chain(&memory)
            .chain(ALL_WAN)
            .chain(CLIENTS)
            .copied()
            .collect();
        let zones: Vec<_> = KEPT.iter().chain(LOGGED).copied().collect();
        let part = |what: &str, cost: f64, names: &[CostName]| {
            let share = format!(
                "{} ({})",
                money(cost),
                percent(cost / it.total.max(f64::MIN_POSITIVE))
            );
            self.row(what, share, names)
        };
        Table {
            id: "bill",
            title: "A month of all regions; prices are assumed",
            head: PLAIN,
            rows: vec![
                part("nodes", it.nodes, &memory),
                part("FoundationDB processes", it.processes, &processes),
                part("disks", it.disks, DISK),
                part("traffic between regions", it.wan, ALL_WAN),
                part("traffic between zones", it.zones, &zones),
                part(
                    &format!("traffic to clients, {} a day", bytes(it.client_bytes_a_day)),
                    it.clients,
                    CLIENTS,
                ),
                part(
                    &format!(
                        "backups, {} full snapshots of {} a region",
                        self.inputs.machines.backup_snapshots,
                        bytes(self.plan.store.backup_bytes)
                    ),
                    it.backups,
                    &zones,
                ),
                part(
                    "address translation for the traffic between regions",
                    it.nat,
                    ALL_WAN,
                ),
                part("**all**", it.total, &all),
                self.row("**a million messages**", money(it.million_messages), &all),
                self.row("a million calls", money(it.million_calls), &all),
                self.row("a thousand daily users", money(it.thousand_users), &all),
            ],
        }
    }

    pub(super) fn levers(&self) -> Table {
        let rows = self.plan.levers.iter().map(|it| {
            vec![
                it.what.clone(),
                money(it.million_messages),
                format!("{}%", count(it.saves_percent)),
                self.stands_on(it.stands_on),
            ]
        });
        Table {
            id: "levers",
            title: "What makes a million messages cheaper, the most first",
            head: &["one change", "a million messages", "saves", "stands on"],
            rows: rows.collect(),
        }
    }
}
