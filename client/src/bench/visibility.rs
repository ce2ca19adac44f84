//! How long a message takes to be seen in the other regions.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use super::accept::Accepted;
use super::cast::{Cast, observer};
use super::latency::Latencies;
use super::load::{Posted, drive};
use super::{Control, Extent, Load, Percentiles, Target};
use crate::api::EventKind;
use crate::{Error, EventStream};

/// How long is waited for what has not been seen yet after the last message.
const GRACE: Duration = Duration::from_secs(30);

/// Each message is remembered until the end of the run.
const MESSAGES_MAX: u64 = 2_000_000;

/// What [`visibility`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Visibility {
    /// The posts themselves.
    #[serde(flatten)]
    pub accepted: Accepted,
    /// Every region but the one that was written to.
    pub regions: Vec<RegionVisibility>,
}

impl Visibility {
    /// All accepted messages were seen once in each region.
    pub fn is_exact(&self) -> bool {
        let exact = |region: &RegionVisibility| region.missing == 0 && region.seen_twice == 0;
        self.regions.iter().all(exact)
    }
}

/// What was seen on a stream in one region. All messages count here, those of the warm-up
/// included; only the latency leaves these out.
#[derive(Clone, Debug, Serialize)]
pub struct RegionVisibility {
    /// Its name.
    pub region: String,
    /// Accepted messages that were seen.
    pub seen: u64,
    /// Accepted messages that were not seen in time.
    pub missing: u64,
    /// Messages that were seen more than once.
    pub seen_twice: u64,
    /// Messages that were seen, but whose acknowledgement was lost.
    pub unacknowledged: u64,
    /// From the intended time of sending until the event was read from the stream, by one clock.
    pub latency: Option<Percentiles>,
}

/// Posts into the first region of `target` in an open loop, and listens in all others.
pub async fn visibility(
    target: &Target,
    load: &Load,
    control: &Control,
) -> Result<Visibility, Error> {
    let total = match (load.extent, load.rate) {
        (_, None) => return Err(Error::config("visibility is measured at a rate")),
        (Extent::Messages(messages), _) => messages,
        (Extent::Duration(time), Some(rate)) => time.as_secs().saturating_mul(rate.get().into()),
    };
    if total > MESSAGES_MAX {
        return Err(Error::config(format!(
            "{total} messages would have to be remembered, and at most {MESSAGES_MAX} are: a \
             shorter time, or fewer messages a second"
        )));
    }
    let region = target.written()?;
    load.check(region)?;
    let others = &target.regions[1..];
    if others.is_empty() {
        return Err(Error::config("visibility needs a second region"));
    }
    control.stage("making users and conversations", None);
    let (users, conversations) = (load.users.get(), load.conversations.get());
    let cast = Rc::new(Cast::make(target, region, users, conversations).await?);

    control.stage("opening streams", Some(others.len() as u64));
    let ledger = Rc::new(RefCell::new(Ledger::new(others.len())));
    let mut streams = JoinSet::new();
    for (at, other) in others.iter().enumerate() {
        let stream = observer(target, other, &cast.run)?.stream(None).await?;
        streams.spawn_local(watch(stream, Rc::clone(&ledger), at));
        control.step();
    }
    let sent = Rc::clone(&ledger);
    let tally = drive(target, region, &cast, load, control, move |turn, reply| {
        let posted: Posted = reply.json()?;
        let counted = turn.counted.then_some(turn.due);
        sent.borrow_mut().accepted(posted.id, counted);
        Ok(())
    })
    .await?;

    control.stage("waiting for the last ones", None);
    let deadline = Instant::now() + GRACE;
    while !ledger.borrow().is_complete() && Instant::now() < deadline && !*control.stop.borrow() {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
            Some(ended) = streams.join_next() => {
                ended.map_err(|panic| Error::config(format!("a stream broke off: {panic}")))??;
            }
        }
    }
    streams.shutdown().await;
    let accepted = Accepted::new(&cast, region, load, tally);
    let seen = ledger.borrow().report();
    Ok(Visibility {
        accepted,
        regions: others
            .iter()
            .zip(seen)
            .map(|(region, seen)| RegionVisibility {
                region: region.name.clone(),
                ..seen
            })
            .collect(),
    })
}

/// Writes down what a stream shows, until it fails for good.
async fn watch(
    mut stream: EventStream,
    ledger: Rc<RefCell<Ledger>>,
    region: usize,
) -> Result<(), Error> {
    loop {
        match stream.next().await {
            Ok(event) => {
                if let EventKind::MessagePosted { message } = event.kind {
                    ledger.borrow_mut().seen(region, message.id, Instant::now());
                }
            }
            // It resumes where it was: a gap would show as a message that is missing.
            Err(error) if error.is_transient() => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Which messages were accepted, and which were seen where.
struct Ledger {
    /// Id to when it was due, where its latency counts.
    accepted: HashMap<String, Option<Instant>>,
    regions: Vec<Seen>,
}

#[derive(Clone, Default)]
struct Seen {
    /// Id to when it was first seen. It may be seen before it is acknowledged.
    at: HashMap<String, Instant>,
    twice: u64,
}

impl Ledger {
    fn new(regions: usize) -> Self {
        Self {
            accepted: HashMap::new(),
            regions: vec![Seen::default(); regions],
        }
    }

    fn accepted(&mut self, id: String, due: Option<Instant>) {
        self.accepted.insert(id, due);
    }

    fn seen(&mut self, region: usize, id: String, at: Instant) {
        let seen = &mut self.regions[region];
        match seen.at.entry(id) {
            Entry::Vacant(first) => {
                first.insert(at);
            }
            Entry::Occupied(_) => seen.twice += 1,
        }
    }

    /// Everything accepted was seen everywhere.
    fn is_complete(&self) -> bool {
        // What was seen and not accepted is rare: no need to compare all ids each time.
        let enough = |seen: &Seen| seen.at.len() >= self.accepted.len();
        self.regions.iter().all(enough)
            && self
                .regions
                .iter()
                .all(|seen| self.accepted.keys().all(|id| seen.at.contains_key(id)))
    }

    /// For each region, still without its name.
    fn report(&self) -> Vec<RegionVisibility> {
        let region = |seen: &Seen| {
            let mut latency = Latencies::new();
            let mut count = 0;
            for (id, due) in &self.accepted {
                if let Some(at) = seen.at.get(id) {
                    count += 1;
                    if let Some(due) = due {
                        latency.record(at.saturating_duration_since(*due));
                    }
                }
            }
            RegionVisibility {
                region: String::new(),
                seen: count,
                missing: self.accepted.len() as u64 - count,
                seen_twice: seen.twice,
                unacknowledged: seen.at.len() as u64 - count,
                latency: latency.percentiles(),
            }
        };
        self.regions.iter().map(region).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_looked_for_in_each_region() {
        let start = Instant::now();
        let after = |tenths: u64| start + Duration::from_micros(tenths * 100);
        let mut ledger = Ledger::new(2);
        ledger.accepted("warm".to_owned(), None);
        // Seen before it was acknowledged.
        ledger.seen(0, "a".to_owned(), after(5));
        ledger.accepted("a".to_owned(), Some(start));
        ledger.accepted("b".to_owned(), Some(after(1)));
        ledger.seen(0, "b".to_owned(), after(10));
        ledger.seen(0, "b".to_owned(), after(11));
        assert!(!ledger.is_complete());
        ledger.seen(0, "warm".to_owned(), after(900));
        ledger.seen(0, "lost".to_owned(), after(12));
        ledger.seen(1, "a".to_owned(), after(7));
        ledger.seen(1, "lost".to_owned(), after(12));
        ledger.seen(1, "other".to_owned(), after(12));
        assert!(!ledger.is_complete(), "as many, but not the same");

        let [eu, us] = &ledger.report()[..] else {
            panic!("two regions");
        };
        let counts =
            |it: &RegionVisibility| [it.seen, it.missing, it.seen_twice, it.unacknowledged];
        assert_eq!(counts(eu), [3, 0, 1, 1]);
        assert_eq!(counts(us), [1, 2, 0, 2]);
        let latency = eu.latency.unwrap();
        assert_eq!(
            (latency.count, latency.p50_us, latency.max_us),
            (2, 500, 900)
        );
        assert_eq!(us.latency.unwrap().max_us, 700);
    }
}
