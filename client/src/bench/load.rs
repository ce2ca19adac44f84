//! Posts into a region, in a closed or open loop.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::{Method, Uri};
use serde::Serialize;
use tokio::task::JoinSet;

use super::cast::Cast;
use super::latency::Latencies;
use super::schedule::{Extent, Schedule, Turn, Turns};
use super::texts::{Bodies, Texts};
use super::usage::cpu_time;
use super::wire::{Line, Refusal, Reply, Server, with_key};
use super::{Control, Percentiles, Region, Target};
use crate::Error;

/// Members of one conversation: its creation, which names them all, must fit into a request.
const MEMBERS_MAX: usize = 2_000;

/// The longest that a refused client of a closed loop waits, whatever the region asks.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is posted, and how.
#[derive(Clone, Debug)]
pub struct Load {
    /// Connections; each has one message under way at a time.
    pub clients: NonZeroUsize,
    /// Messages a second, in an open loop; `None`: a closed loop.
    pub rate: Option<NonZeroU32>,
    /// Users, who take turns. Each has a quota in the region, by default of 50 writes a second.
    pub users: NonZeroUsize,
    /// Conversations, which take turns.
    pub conversations: NonZeroUsize,
    /// What comes first and does not count.
    pub warmup: Duration,
    /// How long it goes on after that.
    pub extent: Extent,
    /// What is posted.
    pub texts: Texts,
}

impl Load {
    pub(super) fn check(&self) -> Result<(), Error> {
        let members = self.users.get().div_ceil(self.conversations.get());
        if members > MEMBERS_MAX {
            return Err(Error::config(format!(
                "{members} users would share a conversation, and at most {MEMBERS_MAX} may: \
                 fewer users, or more conversations"
            )));
        }
        Ok(())
    }

    /// The steps of a run, where they are known.
    pub(super) fn steps(&self) -> Option<u64> {
        match (self.extent, self.rate) {
            (Extent::Messages(messages), _) => Some(messages),
            (Extent::Duration(duration), Some(rate)) => {
                Some((duration.as_secs_f64() * f64::from(rate.get())) as u64)
            }
            (Extent::Duration(_), None) => None,
        }
    }
}

/// Where the texts came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextsUsed {
    /// `export`, or `generated` with the same lengths.
    pub source: &'static str,
    /// How many different ones.
    pub count: usize,
    /// Their mean length.
    pub mean_bytes: f64,
}

impl From<&Texts> for TextsUsed {
    fn from(texts: &Texts) -> Self {
        Self {
            source: texts.source(),
            count: texts.count(),
            mean_bytes: (texts.mean_bytes() * 10.0).round() / 10.0,
        }
    }
}

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

/// What became of the messages that counted.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) accepted: u64,
    /// Code to how often.
    pub(super) refused: BTreeMap<String, u64>,
    /// In the words of the first refusal of each code.
    pub(super) reasons: BTreeMap<String, String>,
    /// Of what was accepted.
    pub(super) latency: Latencies,
    /// How late messages of an open loop were sent.
    pub(super) send_lag: Latencies,
    /// From the first message to the last answer.
    pub(super) seconds: f64,
    pub(super) cpu: Cpu,
}

impl Tally {
    pub(super) fn latency(&self) -> Option<Percentiles> {
        self.latency.percentiles()
    }

    pub(super) fn per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            (self.accepted as f64 / self.seconds * 10.0).round() / 10.0
        } else {
            0.0
        }
    }
}

/// State that the clients share. All of them run on one thread.
struct Shared {
    turns: Turns,
    cast: Rc<Cast>,
    /// Where to post, for each conversation.
    targets: Vec<Uri>,
    bodies: Bodies,
    counting: RefCell<Counting>,
    control: Control,
    open_loop: bool,
}

struct Counting {
    tally: Tally,
    /// Set by the first message that counts.
    began: Option<(Instant, Clocks)>,
    ended: Option<Instant>,
}

/// Posts and counts. `answered` is told the turn, when it was sent, and the answer, of each message
/// that was accepted.
pub(super) async fn drive(
    target: &Target,
    region: &Region,
    cast: &Rc<Cast>,
    load: &Load,
    control: &Control,
    answered: impl Fn(&Turn, &Reply) + 'static,
) -> Result<Tally, Error> {
    let server = Server::new(&region.url)?;
    let targets = cast
        .conversations
        .iter()
        .map(|id| server.target(&["conversations", id, "messages"]))
        .collect::<Result<_, Error>>()?;
    let mut lines = Vec::with_capacity(load.clients.get());
    for _ in 0..load.clients.get() {
        lines.push(Line::open(server.clone()).await?);
    }
    let schedule = Schedule {
        rate: load.rate,
        warmup: load.warmup,
        extent: load.extent,
    };
    let bodies = load.texts.bodies();
    control.stage("posting", load.steps());
    let shared = Rc::new(Shared {
        turns: Turns::start(schedule, control.stop.clone()),
        cast: Rc::clone(cast),
        targets,
        bodies,
        counting: RefCell::new(Counting::new()),
        control: control.clone(),
        open_loop: load.rate.is_some(),
    });
    let answered = Rc::new(answered);
    let pids: Rc<[Vec<u32>]> = target.regions.iter().map(|r| r.pids.clone()).collect();
    let mut clients = JoinSet::new();
    for line in lines {
        let client = post_in_turn(
            Rc::clone(&shared),
            line,
            Rc::clone(&pids),
            Rc::clone(&answered),
        );
        clients.spawn_local(client);
    }
    while let Some(joined) = clients.join_next().await {
        joined.map_err(|panic| Error::config(format!("a client broke off: {panic}")))?;
    }
    let now = Clocks::read(&pids);
    let mut counting = shared.counting.replace(Counting::new());
    if let (Some((began, clocks)), Some(ended)) = (&counting.began, counting.ended) {
        counting.tally.seconds = ended.duration_since(*began).as_secs_f64();
        counting.tally.cpu = now.since(clocks, &target.regions, counting.tally.accepted);
    }
    Ok(counting.tally)
}

/// One client: posts whenever it has a turn.
async fn post_in_turn(
    shared: Rc<Shared>,
    mut line: Line,
    pids: Rc<[Vec<u32>]>,
    answered: Rc<impl Fn(&Turn, &Reply)>,
) {
    while let Some(turn) = shared.turns.next().await {
        let (user, conversation) = shared.cast.place(turn.n);
        let request = line.request(
            Method::POST,
            shared.targets[conversation].clone(),
            shared.cast.users[user].bearer.clone(),
            shared.bodies.nth(turn.n),
        );
        let request = with_key(request, format!("{}-{}", shared.cast.run, turn.n));
        if turn.counted {
            shared
                .counting
                .borrow_mut()
                .sent(&turn, || Clocks::read(&pids));
        }
        let outcome = line.call(request).await;
        let latency = turn.due.elapsed();
        let refusal = match outcome {
            Ok(reply) if reply.status.is_success() => {
                if turn.counted {
                    shared.counting.borrow_mut().accepted(latency);
                    shared.control.step();
                }
                answered(&turn, &reply);
                continue;
            }
            Ok(reply) => reply.refusal(),
            Err(error) => Refusal::of(&error),
        };
        let pause = refusal.retry_after.unwrap_or(Duration::from_millis(10));
        if turn.counted {
            shared
                .counting
                .borrow_mut()
                .refused(refusal.code, refusal.detail);
            shared.control.step();
        }
        if !shared.open_loop {
            // Others in the loop go on; who was refused does as told.
            tokio::time::sleep(pause.min(PAUSE_MAX)).await;
        }
    }
}

impl Counting {
    fn new() -> Self {
        Self {
            tally: Tally {
                sent: 0,
                accepted: 0,
                refused: BTreeMap::new(),
                reasons: BTreeMap::new(),
                latency: Latencies::new(),
                send_lag: Latencies::new(),
                seconds: 0.0,
                cpu: Cpu {
                    client_cpu_us_per_message: None,
                    regions: Vec::new(),
                },
            },
            began: None,
            ended: None,
        }
    }

    fn sent(&mut self, turn: &Turn, clocks: impl FnOnce() -> Clocks) {
        if self.began.is_none() {
            self.began = Some((turn.due, clocks()));
        }
        self.tally.sent += 1;
        self.tally.send_lag.record(turn.due.elapsed());
    }

    fn accepted(&mut self, latency: Duration) {
        self.tally.accepted += 1;
        self.tally.latency.record(latency);
        self.ended = Some(Instant::now());
    }

    fn refused(&mut self, code: String, reason: String) {
        self.tally.reasons.entry(code.clone()).or_insert(reason);
        *self.tally.refused.entry(code).or_default() += 1;
        self.ended = Some(Instant::now());
    }
}

/// Processor time of this process and of each region, up to a moment.
struct Clocks {
    own: Option<Duration>,
    regions: Vec<Option<Duration>>,
}

impl Clocks {
    fn read(pids: &[Vec<u32>]) -> Self {
        let region = |pids: &Vec<u32>| match pids.is_empty() {
            true => None,
            false => pids.iter().map(|&pid| cpu_time(pid)).sum(),
        };
        Self {
            own: cpu_time(std::process::id()),
            regions: pids.iter().map(region).collect(),
        }
    }

    fn since(&self, earlier: &Self, regions: &[Region], messages: u64) -> Cpu {
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
