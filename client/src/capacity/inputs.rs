//! What a team puts in, and what is wrong with it.

use serde::Serialize;

use super::Costs;

/// Regions, shards and logs of a cluster that a node's config takes.
const REGIONS_MAX: u32 = 16;
const SHARDS_MAX: u32 = 64;
const LOGS_MAX: u32 = 256;

/// All that a plan depends on. The defaults are the case that the field uses as its yardstick.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Inputs {
    /// What users do.
    pub load: Load,
    /// Where it runs.
    pub regions: Regions,
    /// On what it runs.
    pub machines: Machines,
    /// What that costs.
    pub prices: Prices,
    /// What one operation takes.
    pub costs: Costs,
}

/// What users do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Users a day.
    pub daily_users: f64,
    /// Calls that each makes a day.
    pub actions_per_user: f64,
    /// Calls a second at the peak, over the mean of the day.
    pub peak_factor: f64,
    /// What the calls are.
    pub shares: Shares,
    /// Open streams that each write is told on, in all regions together.
    pub listeners: f64,
    /// Users of a day who have a stream open at the peak, in percent.
    pub online_percent: f64,
    /// Mean bytes of a message's text.
    pub text_bytes: f64,
    /// Days of messages that the stores hold.
    pub history_days: f64,
    /// Hours that logs are kept at least (`retention.min_s`).
    pub log_hours: f64,
    /// Outages of regions to plan for, in hours.
    pub outage_hours: Vec<f64>,
    /// Users overnight, over those of yesterday.
    pub spike: f64,
}

/// Calls of each kind, in percent of all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shares {
    /// Messages posted.
    pub posts: f64,
    /// Pages of 50 messages read.
    pub pages: f64,
    /// Read markers set: what others see as receipts.
    pub markers: f64,
    /// Reactions set or taken back.
    pub reactions: f64,
}

/// Where it runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Regions {
    /// Regions; each holds everything.
    pub count: u32,
    /// Of these may be down at the peak.
    pub down: u32,
    /// Round trip between two regions, in milliseconds.
    pub rtt_ms: f64,
    /// Shards of the cluster.
    pub shards: u32,
}

/// On what it runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machines {
    /// Processors of a node.
    pub node_cores: f64,
    /// Memory of a node, in GiB.
    pub node_memory_gib: f64,
    /// Disk of a storage process of FoundationDB, in GB. Each process has one processor.
    pub process_disk_gb: f64,
    /// Copies of the data in a region.
    pub copies: u32,
    /// Full snapshots of a store that its backup keeps; 0: no backup.
    pub backup_snapshots: u32,
    /// How full processors, memory and disks are at most, in percent.
    pub utilisation_percent: f64,
}

/// What machines and traffic cost, in any one currency. The defaults are round figures to be
/// replaced, no provider's quotes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prices {
    /// A node, for an hour.
    pub node_hour: f64,
    /// A process of FoundationDB with its processor and 8 GiB, without its disk, for an hour.
    pub process_hour: f64,
    /// A GB of local NVMe disk, for a month.
    pub disk_gb_month: f64,
    /// A GB from one region to another.
    pub wan_gb: f64,
    /// A GB to clients.
    pub client_gb: f64,
    /// A GB from zone to zone in a region.
    pub zone_gb: f64,
    /// A GB of backup, for a month.
    pub backup_gb_month: f64,
    /// A GB between regions that goes through address translation, for that alone; 0: without.
    pub nat_gb: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            daily_users: 100e6,
            actions_per_user: 10.0,
            peak_factor: 3.0,
            shares: Shares::default(),
            listeners: 3.0,
            online_percent: 10.0,
            text_bytes: 140.0,
            history_days: 365.0,
            log_hours: 24.0,
            outage_hours: vec![1.0, 24.0],
            spike: 10.0,
        }
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            posts: 40.0,
            pages: 30.0,
            markers: 20.0,
            reactions: 10.0,
        }
    }
}

impl Default for Regions {
    fn default() -> Self {
        Self {
            count: 3,
            down: 1,
            rtt_ms: 150.0,
            shards: 64,
        }
    }
}

impl Default for Machines {
    fn default() -> Self {
        Self {
            node_cores: 8.0,
            node_memory_gib: 32.0,
            process_disk_gb: 1000.0,
            copies: 3,
            backup_snapshots: 28,
            utilisation_percent: 60.0,
        }
    }
}

impl Default for Prices {
    fn default() -> Self {
        Self {
            node_hour: 0.40,
            process_hour: 0.07,
            disk_gb_month: 0.10,
            wan_gb: 0.05,
            client_gb: 0.05,
            zone_gb: 0.02,
            backup_gb_month: 0.02,
            nat_gb: 0.05,
        }
    }
}

/// Why inputs make no plan: the flag, its limit and what to do, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub(super) String);

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

impl Inputs {
    /// Regions that serve while as many as planned are down.
    pub(super) fn serving(&self) -> f64 {
        f64::from(self.regions.count - self.regions.down)
    }

    /// The part of a resource that the plan fills.
    pub(super) fn utilisation(&self) -> f64 {
        self.machines.utilisation_percent / 100.0
    }

    /// The first thing that is wrong.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let Self {
            load,
            regions,
            machines,
            prices,
            ..
        } = self;
        let shares = &load.shares;
        for (flag, value, least, most) in [
            ("--daily-users", load.daily_users, 1.0, 10e9),
            ("--actions-per-user", load.actions_per_user, 0.001, 1e5),
            ("--peak-factor", load.peak_factor, 1.0, 100.0),
            ("--posts", shares.posts, 0.1, 100.0),
            ("--pages", shares.pages, 0.0, 100.0),
            ("--markers", shares.markers, 0.0, 100.0),
            ("--reactions", shares.reactions, 0.0, 100.0),
            ("--listeners", load.listeners, 0.0, 10_000.0),
            ("--online", load.online_percent, 0.0, 100.0),
            ("--text-bytes", load.text_bytes, 1.0, 16384.0),
            ("--history-days", load.history_days, 1.0, 36_500.0),
            ("--log-hours", load.log_hours, 1.0, 720.0),
            ("--spike", load.spike, 1.0, 1000.0),
            ("--rtt-ms", regions.rtt_ms, 0.1, 2000.0),
            ("--node-cores", machines.node_cores, 1.0, 1024.0),
            ("--node-memory-gib", machines.node_memory_gib, 1.0, 65_536.0),
            ("--process-disk-gb", machines.process_disk_gb, 1.0, 100e3),
            ("--utilisation", machines.utilisation_percent, 1.0, 95.0),
            ("--price-node-hour", prices.node_hour, 0.0, 1e6),
            ("--price-process-hour", prices.process_hour, 0.0, 1e6),
            ("--price-disk-gb-month", prices.disk_gb_month, 0.0, 1e6),
            ("--price-wan-gb", prices.wan_gb, 0.0, 1e6),
            ("--price-client-gb", prices.client_gb, 0.0, 1e6),
            ("--price-zone-gb", prices.zone_gb, 0.0, 1e6),
            ("--price-backup-gb-month", prices.backup_gb_month, 0.0, 1e6),
            ("--price-nat-gb", prices.nat_gb, 0.0, 1e6),
        ] {
            within(flag, value, least, most)?;
        }
        for &hours in &load.outage_hours {
            within("--outage-hours", hours, 0.1, 8760.0)?;
        }
        within("--copies", machines.copies.into(), 1.0, 5.0)?;
        let snapshots = machines.backup_snapshots.into();
        within("--backup-snapshots", snapshots, 0.0, 10_000.0)?;
        within("--regions", regions.count.into(), 1.0, REGIONS_MAX.into())?;
        within("--shards", regions.shards.into(), 1.0, SHARDS_MAX.into())?;
        if regions.down >= regions.count {
            return Err(Invalid(format!(
                "--regions-down is {} and must be below --regions, which is {}: at least one region \
                 serves; let fewer be down, or add a region",
                regions.down, regions.count
            )));
        }
        let logs = regions.shards * regions.count;
        if logs > LOGS_MAX {
            return Err(Invalid(format!(
                "--shards {} in {} regions make {logs} logs, and a node takes {LOGS_MAX}: give \
                 --shards {} or fewer",
                regions.shards,
                regions.count,
                LOGS_MAX / regions.count
            )));
        }
        let sum = shares.posts + shares.pages + shares.markers + shares.reactions;
        if (sum - 100.0).abs() > 0.01 {
            return Err(Invalid(format!(
                "--posts, --pages, --markers and --reactions are {sum} together and must be 100: they \
                 are percents of all calls; give all four"
            )));
        }
        Ok(())
    }
}

fn within(flag: &str, value: f64, least: f64, most: f64) -> Result<(), Invalid> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Invalid(format!(
        "{flag} is {value} and must be {least} to {most}: give a value in between"
    )))
}
