//! Proof that a fault did bite: a fault that did not shows nothing of the cluster.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Injector;
use crate::cluster::Unreplicated;
use crate::experiment::Offset;
use crate::link::{Counters, Faults, LinkReport};

/// Stamps and the clock of a run are of one machine, and may differ by some milliseconds.
const SLACK_US: u64 = 100_000;
/// How long until all know of a clock that has moved.
const CLOCK_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

impl Injector {
    pub(super) async fn prove_away(
        &mut self,
        nth: usize,
        region: &str,
        pid: u32,
    ) -> anyhow::Result<Value> {
        let gone = !std::path::Path::new(&format!("/proc/{pid}")).exists();
        self.settle(nth, gone, format!("process {pid} is gone: {gone}"));
        self.prove_silent(nth, region).await?;
        Ok(json!(pid))
    }

    pub(super) async fn prove_frozen(
        &mut self,
        nth: usize,
        region: &str,
        pid: u32,
    ) -> anyhow::Result<Value> {
        let frozen = self.cluster.process(region)?.is_frozen();
        self.settle(nth, frozen, format!("process {pid} is stopped: {frozen}"));
        self.prove_silent(nth, region).await?;
        Ok(json!(pid))
    }

    async fn prove_silent(&mut self, nth: usize, region: &str) -> anyhow::Result<()> {
        let url = &self.cluster.region(region)?.admin_url;
        let said = self.cluster.admin().readiness(url).await;
        let silent = said == "no answer";
        self.settle(nth, silent, format!("asked whether it is ready: {said}"));
        Ok(())
    }

    /// What was destroyed comes back as another.
    pub(super) async fn prove_new_life(
        &mut self,
        nth: usize,
        region: &str,
        old: &str,
    ) -> anyhow::Result<()> {
        let url = &self.cluster.region(region)?.admin_url;
        let new = self.cluster.admin().replication(url).await?.origin;
        let evidence = format!("its store was {old} and is {new}");
        self.settle(nth, new != old, evidence);
        Ok(())
    }

    /// A clock is off where the other regions say so.
    pub(super) async fn prove_clock(
        &mut self,
        nth: usize,
        region: &str,
        offset: Offset,
    ) -> anyhow::Result<Value> {
        let others: Vec<String> = self
            .cluster
            .names()
            .filter(|name| *name != region)
            .map(str::to_owned)
            .collect();
        let began = Instant::now();
        loop {
            let mut seen = Vec::new();
            for other in &others {
                let url = &self.cluster.region(other)?.admin_url;
                // Who does not answer now may do so at the next round.
                let Ok(says) = self.cluster.admin().replication(url).await else {
                    continue;
                };
                let peer = says.peers.iter().find(|peer| peer.name == region);
                seen.extend(peer.and_then(|peer| peer.clock_offset_ms));
            }
            // What a frame says is old by the time that it was under way.
            let near = |seen: &i64| (seen - offset.millis).abs() * 2 <= offset.millis.abs();
            let bit = seen.iter().any(near);
            if bit || began.elapsed() > CLOCK_MAX {
                let evidence = format!("the others measure it as off by {seen:?} ms");
                self.settle(nth, bit, evidence);
                return Ok(json!(seen));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A node that cannot write its store stops.
    pub(super) fn prove_ended(
        &mut self,
        nth: usize,
        region: &str,
        ended: Option<ExitStatus>,
        error: Option<String>,
    ) {
        let how = ended.map_or_else(|| "runs on".to_owned(), |how| format!("ended ({how})"));
        let said = error.map_or_else(String::new, |error| format!(", its last error: {error}"));
        self.settle(nth, ended.is_some(), format!("{region} {how}{said}"));
    }
}

/// Faults of a link, in words.
pub(super) fn words(faults: &Faults) -> String {
    let share = |name: &str, share: f64| {
        (share > 0.0).then(|| format!("{name} {}%", (share * 1e4).round() / 1e2))
    };
    let delay = (faults.delay_ms > 0).then(|| match faults.jitter_ms {
        0 => format!("delay {} ms", faults.delay_ms),
        jitter => format!("delay {} +- {jitter} ms", faults.delay_ms),
    });
    let parts = [
        faults.cut.then(|| "cut".to_owned()),
        delay,
        share("loss", faults.loss),
        share("duplicates", faults.duplicate),
        share("reordering", faults.reorder),
        faults
            .bits_per_second
            .map(|rate| format!("{rate} bits per second")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Each fault has changed the fate of some datagram: what is certain on each bad link, what is up to
/// chance on any of them.
pub(super) fn of_links(before: &[LinkReport], after: &[LinkReport]) -> (bool, String) {
    let mut bit = true;
    let mut evidence = Vec::new();
    let mut by_chance: BTreeMap<&str, u64> = BTreeMap::new();
    for now in after.iter().filter(|link| !link.faults.is_none()) {
        let then = before
            .iter()
            .find(|link| link.from == now.from && link.to == now.to);
        let Some(then) = then else {
            continue;
        };
        let mut counts = Vec::new();
        for (what, is_certain, count) in done(&now.faults, &then.counters, &now.counters) {
            counts.push(format!("{count} {what}"));
            if is_certain {
                bit &= count > 0;
            } else {
                *by_chance.entry(what).or_default() += count;
            }
        }
        evidence.push(format!("{} to {}: {}", now.from, now.to, counts.join(", ")));
    }
    bit &= by_chance.values().all(|count| *count > 0);
    (bit && !evidence.is_empty(), evidence.join("; "))
}

/// What each fault did, and whether it must have done so to any datagram.
fn done(faults: &Faults, then: &Counters, now: &Counters) -> Vec<(&'static str, bool, u64)> {
    let dropped = now.dropped.cut - then.dropped.cut;
    if faults.cut {
        return vec![("dropped", true, dropped)];
    }
    let narrow = |counters: &Counters| counters.dropped.bandwidth + counters.delayed;
    let lost = now.dropped.loss - then.dropped.loss;
    let doubled = now.duplicated - then.duplicated;
    let overtaken = now.reordered - then.reordered;
    let all = [
        (
            faults.delay_ms > 0,
            ("delayed", true, now.delayed - then.delayed),
        ),
        (faults.loss > 0.0, ("lost", false, lost)),
        (faults.duplicate > 0.0, ("doubled", false, doubled)),
        (faults.reorder > 0.0, ("overtaken", false, overtaken)),
        (
            faults.bits_per_second.is_some(),
            ("squeezed", false, narrow(now) - narrow(then)),
        ),
    ];
    let on = all.into_iter().filter(|(is_on, _)| *is_on);
    on.map(|(_, done)| done).collect()
}

/// Microseconds before a report since when a region may have acked what no other has.
pub(super) fn tail_us(report: &Unreplicated) -> u64 {
    Duration::try_from_secs_f64(report.oldest_seconds)
        .ok()
        .and_then(|oldest| u64::try_from(oldest.as_micros()).ok())
        .unwrap_or(u64::MAX)
        .saturating_add(SLACK_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Dropped;

    fn link(faults: Faults, cut: u64, lost: u64) -> LinkReport {
        LinkReport {
            from: "eu".to_owned(),
            to: "us".to_owned(),
            faults,
            counters: Counters {
                dropped: Dropped {
                    cut,
                    loss: lost,
                    ..Dropped::default()
                },
                ..Counters::default()
            },
        }
    }

    #[test]
    fn a_link_bites_where_each_of_its_faults_did() {
        let check = |faults: Faults, cut: u64, lost: u64, expected: bool| {
            let (before, after) = ([link(Faults::default(), 5, 5)], [link(faults, cut, lost)]);
            let (bit, evidence) = of_links(&before, &after);
            assert_eq!(bit, expected, "{evidence}");
        };
        let cut = Faults {
            cut: true,
            ..Faults::default()
        };
        let lossy = Faults {
            loss: 0.05,
            duplicate: 0.01,
            ..Faults::default()
        };
        check(cut, 6, 5, true);
        check(cut, 5, 5, false);
        check(lossy, 5, 9, false);
        check(
            Faults {
                duplicate: 0.0,
                ..lossy
            },
            5,
            9,
            true,
        );
        // Nothing was wrong with any link.
        check(Faults::default(), 9, 9, false);
        assert_eq!(words(&lossy), "loss 5%, duplicates 1%");
    }
}
