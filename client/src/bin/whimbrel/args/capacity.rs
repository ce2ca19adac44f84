//! The command line of `whimbrel capacity`.

use clap::Args;
use whimbrel_client::capacity::{Inputs, Load, Machines, Prices, Regions, Shares};

#[derive(Debug, Args)]
pub(crate) struct Capacity {
    #[command(flatten)]
    pub(crate) users: Users,
    #[command(flatten)]
    pub(crate) where_it_runs: WhereItRuns,
    #[command(flatten)]
    pub(crate) prices: PricesArgs,
    /// A unit cost of your own, such as `post.node_us=180`; several times, or comma-separated
    #[arg(long = "cost", value_name = "NAME=VALUE", value_parser = cost, value_delimiter = ',',
          help_heading = "Unit costs")]
    pub(crate) costs: Vec<(String, f64)>,
    /// Print Markdown
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What users do")]
pub(crate) struct Users {
    /// Users a day, such as 100M or 250K
    #[arg(long, value_name = "N", default_value = "100M", value_parser = number)]
    daily_users: f64,
    /// Calls that each makes a day
    #[arg(long, value_name = "N", default_value = "10", value_parser = number)]
    actions_per_user: f64,
    /// Calls a second at the peak, over the mean of the day
    #[arg(long, value_name = "TIMES", default_value = "3", value_parser = number)]
    peak_factor: f64,
    /// Of the calls, messages posted; these four make 100
    #[arg(long, value_name = "PERCENT", default_value = "40", value_parser = percent)]
    posts: f64,
    /// Of the calls, pages of 50 messages read
    #[arg(long, value_name = "PERCENT", default_value = "30", value_parser = percent)]
    pages: f64,
    /// Of the calls, read markers set, which others see as receipts
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = percent)]
    markers: f64,
    /// Of the calls, reactions set or taken back
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percent)]
    reactions: f64,
    /// Open streams that are told of each write, in all regions together
    #[arg(long, value_name = "N", default_value = "3", value_parser = number)]
    listeners: f64,
    /// Of a day's users, those with a stream open at the peak
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percent)]
    online: f64,
    /// Mean bytes of a message's text
    #[arg(long, value_name = "BYTES", default_value = "140", value_parser = number)]
    text_bytes: f64,
    /// Days of messages in the stores when the bill is made; Whimbrel removes none by itself
    #[arg(long, value_name = "DAYS", default_value = "365", value_parser = number)]
    history_days: f64,
    /// Users overnight, over those of yesterday
    #[arg(long, value_name = "TIMES", default_value = "10", value_parser = number)]
    spike: f64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Regions and machines")]
pub(crate) struct WhereItRuns {
    /// Regions; each holds everything
    #[arg(long, value_name = "N", default_value = "3")]
    regions: u32,
    /// Of these may be down at the peak: the others then carry all of it
    #[arg(long, value_name = "N", default_value = "1")]
    regions_down: u32,
    /// Outages to plan for, each from the peak on
    #[arg(long, value_name = "HOURS,...", default_value = "1,24", value_delimiter = ',', value_parser = number)]
    outage_hours: Vec<f64>,
    /// How long logs are kept at least: `retention.min_s`
    #[arg(long, value_name = "HOURS", default_value = "24", value_parser = number)]
    log_hours: f64,
    /// Round trip between two regions
    #[arg(long, value_name = "MS", default_value = "150", value_parser = number)]
    rtt_ms: f64,
    /// Shards of the cluster, fixed once there is data
    #[arg(long, value_name = "N", default_value = "64")]
    shards: u32,
    /// Processors of a node
    #[arg(long, value_name = "N", default_value = "8", value_parser = number)]
    node_cores: f64,
    /// Memory of a node
    #[arg(long, value_name = "GIB", default_value = "32", value_parser = number)]
    node_memory_gib: f64,
    /// Disk of a storage process of FoundationDB; each process has one processor
    #[arg(long, value_name = "GB", default_value = "1000", value_parser = number)]
    process_disk_gb: f64,
    /// Copies of all data in a region
    #[arg(long, value_name = "N", default_value = "3")]
    copies: u32,
    /// Full snapshots of a store that its backup keeps; Terraform's modules take one a day, keep them for 14 days, and what was deleted for 14 more
    #[arg(long, value_name = "N", default_value = "28")]
    backup_snapshots: u32,
    /// How full processors, memory and disks may be at the peak
    #[arg(long, value_name = "PERCENT", default_value = "60", value_parser = percent)]
    utilisation: f64,
}

/// Round figures, nobody's quotes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prices, in any one currency: round figures, put in your own")]
pub(crate) struct PricesArgs {
    /// A node, for an hour
    #[arg(long, value_name = "PRICE", default_value = "0.4", value_parser = number)]
    price_node_hour: f64,
    /// A process of FoundationDB, one processor and 8 GiB without disk, for an hour
    #[arg(long, value_name = "PRICE", default_value = "0.07", value_parser = number)]
    price_process_hour: f64,
    /// A GB of local NVMe disk, for a month
    #[arg(long, value_name = "PRICE", default_value = "0.1", value_parser = number)]
    price_disk_gb_month: f64,
    /// A GB from one region to another
    #[arg(long, value_name = "PRICE", default_value = "0.05", value_parser = number)]
    price_wan_gb: f64,
    /// A GB to clients
    #[arg(long, value_name = "PRICE", default_value = "0.05", value_parser = number)]
    price_client_gb: f64,
    /// A GB from zone to zone in a region
    #[arg(long, value_name = "PRICE", default_value = "0.02", value_parser = number)]
    price_zone_gb: f64,
    /// A GB of backup, for a month
    #[arg(long, value_name = "PRICE", default_value = "0.02", value_parser = number)]
    price_backup_gb_month: f64,
    /// A GB between regions, for the gateway that translates its addresses
    #[arg(long, value_name = "PRICE", default_value = "0.05", value_parser = number)]
    price_nat_gb: f64,
}

impl Capacity {
    /// What the plan is made of, without the unit costs that were given.
    pub(crate) fn inputs(&self) -> Inputs {
        let (users, place, prices) = (&self.users, &self.where_it_runs, &self.prices);
        Inputs {
            load: Load {
                daily_users: users.daily_users,
                actions_per_user: users.actions_per_user,
                peak_factor: users.peak_factor,
                shares: Shares {
                    posts: users.posts,
                    pages: users.pages,
                    markers: users.markers,
                    reactions: users.reactions,
                },
                listeners: users.listeners,
                online_percent: users.online,
                text_bytes: users.text_bytes,
                history_days: users.history_days,
                log_hours: place.log_hours,
                outage_hours: place.outage_hours.clone(),
                spike: users.spike,
            },
            regions: Regions {
                count: place.regions,
                down: place.regions_down,
                rtt_ms: place.rtt_ms,
                shards: place.shards,
            },
            machines: Machines {
                node_cores: place.node_cores,
                node_memory_gib: place.node_memory_gib,
                process_disk_gb: place.process_disk_gb,
                copies: place.copies,
                backup_snapshots: place.backup_snapshots,
                utilisation_percent: place.utilisation,
            },
            prices: Prices {
                node_hour: prices.price_node_hour,
                process_hour: prices.price_process_hour,
                disk_gb_month: prices.price_disk_gb_month,
                wan_gb: prices.price_wan_gb,
                client_gb: prices.price_client_gb,
                zone_gb: prices.price_zone_gb,
                backup_gb_month: prices.price_backup_gb_month,
                nat_gb: prices.price_nat_gb,
            },
            ..Inputs::default()
        }
    }
}

fn number(text: &str) -> Result<f64, String> {
    let (digits, times) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 1e3),
        Some('m' | 'M') => (&text[..text.len() - 1], 1e6),
        Some('g' | 'G' | 'b' | 'B') => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    // Rust reads words as numbers, too.
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    digits
        .parse::<f64>()
        .ok()
        .filter(|_| is_plain)
        .map(|number| number * times)
        .ok_or_else(|| "it is a number, such as 10, 1.5, 250K, 100M or 2G".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    number(text.strip_suffix('%').unwrap_or(text))
        .ok()
        .filter(|percent| *percent <= 100.0)
        .ok_or_else(|| "it is a percentage of 0 to 100, such as 40 or 40%".to_owned())
}

fn cost(text: &str) -> Result<(String, f64), String> {
    let wrong = || "it is NAME=VALUE, such as post.node_us=180".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    Ok((name.trim().to_owned(), number(value.trim())?))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn numbers() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(number(text).ok(), expected, "{text}");
        };
        check("100M", Some(100e6));
        check("1.5k", Some(1500.0));
        check("2G", Some(2e9));
        check("0.05", Some(0.05));
        for bad in [
            "", "M", "-1", "1e9", "inf", "NaN", "1,000", "10 M", "1.2.3", "5€",
        ] {
            check(bad, None);
        }
        assert_eq!(percent("40%"), Ok(40.0));
        assert!(percent("101").is_err());
        assert_eq!(cost("a.b = 2K"), Ok(("a.b".to_owned(), 2000.0)));
        assert!(cost("a.b").is_err());
    }

    /// The defaults stand in the library and in `--help`.
    #[test]
    fn defaults_are_those_of_the_library() {
        let cli = Cli::parse_from(["whimbrel", "capacity"]);
        let Command::Capacity(args) = cli.command else {
            panic!("{:?}", cli.command);
        };
        assert_eq!(args.inputs(), Inputs::default());
    }
}
