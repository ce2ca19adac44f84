//! What went in: inputs and unit costs.

use super::{Table, Tables};
use crate::capacity::show::count;
use crate::capacity::{Basis, Inputs};

impl Tables<'_> {
    pub(super) fn given(&self) -> Table {
        let Inputs {
            load,
            regions,
            machines,
            prices,
            ..
        } = self.inputs;
        let shares = &load.shares;
        let hours: Vec<_> = load.outage_hours.iter().map(ToString::to_string).collect();
        let flags = |list: &[(&str, String)]| -> String {
            let flags: Vec<_> = list
                .iter()
                .map(|(flag, value)| format!("--{flag} {value}"))
                .collect();
            flags.join(" ")
        };
        let plain = f64::to_string;
        let rows = [
            (
                "users",
                flags(&[
                    ("daily-users", count(load.daily_users)),
                    ("actions-per-user", plain(&load.actions_per_user)),
                    ("peak-factor", plain(&load.peak_factor)),
                    ("online", plain(&load.online_percent)),
                    ("spike", plain(&load.spike)),
                ]),
            ),
            (
                "what they do, in percent",
                flags(&[
                    ("posts", plain(&shares.posts)),
                    ("pages", plain(&shares.pages)),
                    ("markers", plain(&shares.markers)),
                    ("reactions", plain(&shares.reactions)),
                ]),
            ),
            (
                "messages",
                flags(&[
                    ("text-bytes", plain(&load.text_bytes)),
                    ("listeners", plain(&load.listeners)),
                    ("history-days", plain(&load.history_days)),
                    ("log-hours", plain(&load.log_hours)),
                ]),
            ),
            (
                "regions",
                flags(&[
                    ("regions", regions.count.to_string()),
                    ("regions-down", regions.down.to_string()),
                    ("rtt-ms", plain(&regions.rtt_ms)),
                    ("shards", regions.shards.to_string()),
                    ("outage-hours", hours.join(",")),
                ]),
            ),
            (
                "machines",
                flags(&[
                    ("node-cores", plain(&machines.node_cores)),
                    ("node-memory-gib", plain(&machines.node_memory_gib)),
                    ("process-disk-gb", plain(&machines.process_disk_gb)),
                    ("copies", machines.copies.to_string()),
                    ("backup-snapshots", machines.backup_snapshots.to_string()),
                    ("utilisation", plain(&machines.utilisation_percent)),
                ]),
            ),
            (
                "prices: assumed",
                flags(&[
                    ("price-node-hour", plain(&prices.node_hour)),
                    ("price-process-hour", plain(&prices.process_hour)),
                    ("price-disk-gb-month", plain(&prices.disk_gb_month)),
                    ("price-wan-gb", plain(&prices.wan_gb)),
                    ("price-client-gb", plain(&prices.client_gb)),
                    ("price-zone-gb", plain(&prices.zone_gb)),
                    ("price-backup-gb-month", plain(&prices.backup_gb_month)),
                    ("price-nat-gb", plain(&prices.nat_gb)),
                ]),
            ),
        ];
        Table {
            id: "inputs",
            title: "Inputs",
            head: &["what", "flags"],
            rows: rows
                .map(|(what, flags)| vec![what.to_owned(), flags])
                .to_vec(),
        }
    }

    pub(super) fn costs(&self, id: &'static str, title: &'static str, bases: &[Basis]) -> Table {
        let costs = self
            .inputs
            .costs
            .iter()
            .filter(|cost| bases.contains(&cost.basis));
        Table {
            id,
            title,
            head: &["name", "value", "of", "from"],
            rows: costs
                .map(|cost| {
                    vec![
                        cost.name.to_owned(),
                        format!("{} {}", cost.value, cost.unit),
                        cost.what.to_owned(),
                        cost.source.to_owned(),
                    ]
                })
                .collect(),
        }
    }
}
