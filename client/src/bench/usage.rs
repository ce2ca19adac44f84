//! What processes use: processor time, as `/proc` tells on Linux. Elsewhere, and of
//! processes on other machines, nothing is known.

use std::time::Duration;

/// Processor time that a process has used, all its threads, in user and system mode. It comes in
/// ticks of usually 10 ms.
pub(super) fn cpu_time(pid: u32) -> Option<Duration> {
    parse_cpu_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
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
    #[cfg(target_os = "linux")]
    fn our_own() {
        let own = std::process::id();
        assert!(cpu_time(own).is_some());
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
