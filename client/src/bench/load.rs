//! Posts into a region, in a closed or open loop.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::{Method, Uri};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::cast::Cast;
use super::latency::Latencies;
use super::schedule::{Extent, Schedule, Turn, Turns};
use super::texts::{Bodies, Texts};
use super::usage::{Clocks, Cpu};
use super::wire::{Line, Refusal, Reply, Server, with_key};
use super::{Control, Region, Target};
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
    /// Whether it can be posted to a region at all.
    pub(super) fn check(&self, region: &Region) -> Result<(), Error> {
        Server::new(&region.url)?;
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

/// What an answer to a post is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Posted {
    pub(super) id: String,
    pub(super) position: String,
}

/// Posts and counts. `answered` is told of each message that was accepted; its error ends the run.
pub(super) async fn drive(
    target: &Target,
    region: &Region,
    cast: &Rc<Cast>,
    load: &Load,
    control: &Control,
    answered: impl Fn(&Turn, &Reply) -> Result<(), Error> + 'static,
) -> Result<Tally, Error> {
    let server = Server::new(&region.url)?;
    let targets = cast
        .conversations
        .iter()
        .map(|id| server.target(&["v1", "conversations", id, "messages"]))
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
        joined.map_err(|panic| Error::config(format!("a client broke off: {panic}")))??;
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
    answered: Rc<impl Fn(&Turn, &Reply) -> Result<(), Error>>,
) -> Result<(), Error> {
    while let Some(turn) = shared.turns.next().await {
        let (user, conversation) = shared.cast.place(turn.n);
        let request = line.request(
            Method::POST,
            shared.targets[conversation].clone(),
            Some(shared.cast.users[user].bearer.clone()),
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
                answered(&turn, &reply)?;
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
    Ok(())
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
