//! What processes use: processor time and memory, as `/proc` tells on Linux. Elsewhere, and of
//! processes on other machines, nothing is known.

use std::time::Duration;

use serde::Serialize;

use super::Region;

/// Processor time for each message, in microseconds of user and system time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cpu {
    /// Of this program.
    pub client_cpu_us_per_message: Option<f64>,
    /// Of the regions whose processes run on this machine.
    pub regions: Vec<RegionCpu>,
}

/// Processor time of a region.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegionCpu {
    /// Its name.
    pub region: String,
    /// Of all its processes.
    pub cpu_us_per_message: f64,
}

/// Processor time that a process has used, all its threads, in user and system mode. It comes in
/// ticks of usually 10 ms.
pub(super) fn cpu_time(pid: u32) -> Option<Duration> {
    parse_cpu_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Memory of a process that is in RAM, in bytes.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    parse_resident_bytes(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    // The name, in brackets, may hold spaces and brackets itself.
    let (_, fields) = stat.rsplit_once(')')?;
    // proc(5): utime is field 14, stime 15; after the name stands field 3.
    let mut times = fields.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_micros(
        (user + system) * 1_000_000 / ticks_per_second.max(1),
    ))
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Processor time of this process and of each region, up to a moment.
pub(super) struct Clocks {
    own: Option<Duration>,
    regions: Vec<Option<Duration>>,
}

impl Clocks {
    pub(super) fn read(pids: &[Vec<u32>]) -> Self {
        let region = |pids: &Vec<u32>| match pids.is_empty() {
            true => None,
            false => pids.iter().map(|&pid| cpu_time(pid)).sum(),
        };
        Self {
            own: cpu_time(std::process::id()),
            regions: pids.iter().map(region).collect(),
        }
    }

    pub(super) fn since(&self, earlier: &Self, regions: &[Region], messages: u64) -> Cpu {
        let each = |now: Option<Duration>, before: Option<Duration>| {
            let used = now?.checked_sub(before?)?;
            let us = used.as_secs_f64() * 1e6 / messages as f64;
            (messages > 0).then_some((us * 10.0).round() / 10.0)
        };
        let clocks = self.regions.iter().zip(&earlier.regions).zip(regions);
        Cpu {
            client_cpu_us_per_message: each(self.own, earlier.own),
            regions: clocks
                .filter_map(|((&now, &before), region)| {
                    Some(RegionCpu {
                        region: region.name.clone(),
                        cpu_us_per_message: each(now, before)?,
                    })
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        let ticks = rustix::param::clock_ticks_per_second();
        let expected = Duration::from_micros(300 * 1_000_000 / ticks);
        assert_eq!(parse_cpu_time(stat), Some(expected));
        assert_eq!(parse_cpu_time("7 (x) S"), None);
    }

    #[test]
    fn resident_memory() {
        let status = "Name:\tx\nVmPeak:\t  99 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(parse_resident_bytes(status), Some(1234 * 1024));
        assert_eq!(parse_resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn our_own() {
        let own = std::process::id();
        assert!(cpu_time(own).is_some());
        assert!(resident_bytes(own).unwrap() > 100_000);
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
