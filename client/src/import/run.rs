//! Posting of records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{BadRecord, OWNER, Record};
use crate::api::{ConversationKind, CreateConversation, PostMessage, ProblemCode, Role};
use crate::{Client, Error};

/// Posts the records of an export. All of it is held in memory, to have many rooms under way also
/// where the file has one after the other.
#[derive(Debug)]
pub struct Importer {
    client: Client,
    /// Rooms under way at once. Within a room one post follows the other: only so do positions
    /// keep the order of the file.
    pub concurrency: usize,
    /// Only so many rooms, the first of the file. Default: all.
    pub rooms_max: usize,
    rooms: Vec<Room>,
    room_of: HashMap<String, usize>,
    summary: Summary,
}

#[derive(Debug)]
struct Room {
    id: String,
    title: String,
    records: Vec<Record>,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Records that were read and belong to the rooms asked for, bad ones included.
    pub records: u64,
    /// Rooms that were imported.
    pub rooms: u64,
    /// Different senders.
    pub users: u64,
    /// Messages that were not there before.
    pub new: u64,
    /// Records whose message was there: repeated in the file, or imported earlier.
    pub replayed: u64,
    /// Records that could not be imported; each was reported.
    pub bad: u64,
    /// How long it took.
    pub seconds: f64,
    /// Posts answered in a second, new and replayed.
    pub messages_per_second: f64,
}

/// What is told while an import runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A record was posted, or was there before.
    Done,
    /// A record could not be imported.
    Bad(BadRecord),
}

/// What a room's task tells.
enum Told {
    New,
    Replayed,
    Bad(BadRecord),
}

impl Importer {
    /// An import by a client whose token has scope `service`.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            concurrency: 64,
            rooms_max: usize::MAX,
            rooms: Vec::new(),
            room_of: HashMap::new(),
            summary: Summary::default(),
        }
    }

    /// Adds a record, or passes it over where its room is beyond [`Importer::rooms_max`].
    pub fn add(&mut self, record: Record) {
        let room = match self.room_of.get(&record.room_id) {
            Some(&room) => room,
            None if self.rooms.len() >= self.rooms_max => return,
            None => {
                self.rooms.push(Room {
                    id: record.room_id.clone(),
                    title: record.room.clone(),
                    records: Vec::new(),
                });
                self.room_of
                    .insert(record.room_id.clone(), self.rooms.len() - 1);
                self.rooms.len() - 1
            }
        };
        self.summary.records += 1;
        self.rooms[room].records.push(record);
    }

    /// Counts a record that could not be read.
    pub fn add_bad(&mut self) {
        self.summary.records += 1;
        self.summary.bad += 1;
    }

    /// Records that are waiting to be posted.
    pub fn waiting(&self) -> u64 {
        self.summary.records - self.summary.bad
    }

    /// Posts all. Ends early where going on makes no sense: no right to import, or no answer for
    /// longer than the client's [`RetryPolicy`](crate::RetryPolicy) waits.
    pub async fn run(self, mut notice: impl FnMut(Notice)) -> (Summary, Result<(), Error>) {
        let started = Instant::now();
        let mut summary = self.summary;
        let senders: BTreeSet<&str> = self
            .rooms
            .iter()
            .flat_map(|room| room.records.iter().map(|record| record.sender.as_str()))
            .collect();
        summary.users = senders.len() as u64;

        // The longest first, so that none is left running alone at the end.
        let mut rooms = self.rooms;
        rooms.sort_by_key(|room| room.records.len());
        let client = Arc::new(self.client);
        let (tell, mut told) = mpsc::channel(1024);
        let mut tasks = JoinSet::new();
        let mut outcome = Ok(());
        loop {
            while tasks.len() < self.concurrency.max(1)
                && let Some(room) = rooms.pop()
            {
                tasks.spawn(import_room(Arc::clone(&client), room, tell.clone()));
            }
            tokio::select! {
                Some(what) = told.recv() => match what {
                    Told::New => {
                        summary.new += 1;
                        notice(Notice::Done);
                    }
                    Told::Replayed => {
                        summary.replayed += 1;
                        notice(Notice::Done);
                    }
                    Told::Bad(bad) => {
                        summary.bad += 1;
                        notice(Notice::Bad(bad));
                    }
                },
                joined = tasks.join_next() => match joined {
                    None => break,
                    Some(Ok(Ok(made))) => summary.rooms += u64::from(made),
                    Some(Ok(Err(error))) => {
                        outcome = Err(error);
                        break;
                    }
                    Some(Err(panic)) => {
                        outcome = Err(Error::config(format!("a room's import broke off: {panic}")));
                        break;
                    }
                },
            }
        }
        tasks.shutdown().await;
        drop(tell);
        while let Some(what) = told.recv().await {
            match what {
                Told::New => summary.new += 1,
                Told::Replayed => summary.replayed += 1,
                Told::Bad(bad) => {
                    summary.bad += 1;
                    notice(Notice::Bad(bad));
                }
            }
        }
        summary.seconds = started
            .elapsed()
            .max(Duration::from_millis(1))
            .as_secs_f64();
        summary.messages_per_second = (summary.new + summary.replayed) as f64 / summary.seconds;
        (summary, outcome)
    }
}

/// Whether the room could be made; an error ends the whole import.
async fn import_room(
    client: Arc<Client>,
    room: Room,
    tell: mpsc::Sender<Told>,
) -> Result<bool, Error> {
    // Whoever listens is gone only when the import ends.
    let bad = async |line: u64, reason: String| {
        let _ = tell.send(Told::Bad(BadRecord { line, reason })).await;
    };
    let owner = client.acting_as(OWNER)?;
    let create = CreateConversation {
        kind: ConversationKind::Channel,
        title: Some(room.title),
        topic: None,
        members: Vec::new(),
    };
    let create = owner.create(&create).key(format!("gitter:{}", room.id));
    let channel = match create.clone().await {
        Ok(created) => created.value.id,
        Err(error) => {
            let reason = format!("its room cannot be made: {}", of_this_record(error)?);
            for record in &room.records {
                bad(record.line, reason.clone()).await;
            }
            return Ok(false);
        }
    };

    // Sender to a client that acts for them; `None` where they cannot join.
    let mut senders: BTreeMap<String, Result<Client, String>> = BTreeMap::new();
    for record in room.records {
        if !senders.contains_key(&record.sender) {
            let mut joined = join(&client, &channel, &room.id, &record.sender).await;
            if is_unknown(&joined) {
                create.clone().await?;
                joined = join(&client, &channel, &room.id, &record.sender).await;
            }
            let joined = match joined {
                Ok(client) => Ok(client),
                Err(error) => Err(of_this_sender(error)?),
            };
            senders.insert(record.sender.clone(), joined);
        }
        let sender = match &senders[&record.sender] {
            Ok(sender) => sender,
            Err(reason) => {
                let reason = format!("`{}` cannot join: {reason}", record.sender);
                bad(record.line, reason).await;
                continue;
            }
        };
        let post = PostMessage {
            text: record.text,
            reply_to: None,
            sent_at: Some(record.sent_at),
        };
        let post = sender.post(&channel, &post).key(record.message_id);
        let mut posted = post.clone().await;
        if is_unknown(&posted) {
            create.clone().await?;
            join(&client, &channel, &room.id, &record.sender).await?;
            posted = post.await;
        }
        match posted {
            Ok(answer) => {
                let what = if answer.replayed {
                    Told::Replayed
                } else {
                    Told::New
                };
                let _ = tell.send(what).await;
            }
            Err(error) => bad(record.line, of_this_sender(error)?).await,
        }
    }
    Ok(true)
}

async fn join(client: &Client, channel: &str, room: &str, sender: &str) -> Result<Client, Error> {
    let acting = client.acting_as(sender)?;
    if sender != OWNER {
        acting
            .set_member(channel, sender, Role::Member)
            .key(format!("gitter:{room}:join"))
            .await?;
    }
    Ok(acting)
}

/// A region that takes over from one that failed may not have got the room yet. Made again under its
/// key it is the same one.
fn is_unknown<T>(done: &Result<T, Error>) -> bool {
    let error = done.as_ref().err();
    error.and_then(Error::code) == Some(ProblemCode::NotFound)
}

/// The reason, where only this record is at fault; the error, where all others would fail too.
fn of_this_record(error: Error) -> Result<String, Error> {
    match &error {
        Error::Config(reason) => Ok(reason.clone()),
        Error::Api(problem) => match problem.code {
            ProblemCode::Invalid
            | ProblemCode::TooLarge
            | ProblemCode::IdempotencyMismatch
            | ProblemCode::Redacted => Ok(error.to_string()),
            _ => Err(error),
        },
        Error::Connection { .. } | Error::NoRegion { .. } | Error::Decode { .. } => Err(error),
    }
}

/// The same in a channel that the import made or found: who may do that, and is still not allowed
/// something, acts for somebody who was banned.
fn of_this_sender(error: Error) -> Result<String, Error> {
    match error.code() {
        Some(ProblemCode::Forbidden) => Ok(error.to_string()),
        _ => of_this_record(error),
    }
}
