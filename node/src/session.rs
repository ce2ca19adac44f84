//! One reader of the stream: resumes after a token, then follows the tailers.
//!
//! A session first joins the tailers, so that nothing new can pass it by; then it reads the feed of
//! its conversations from its token up to where the tailers stood; then it takes what the tailers
//! handed it meanwhile, as it is by then, and drops what its token covers already.

mod own_reads;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use whimbrel_client::api;
use whimbrel_replication::crdt::member::Member;
use whimbrel_replication::crdt::message::Message;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{ConversationId, MessageId, ShardId};
use whimbrel_replication::op::Standing;

use crate::apply::corrupt;
use crate::apply::rows::Crossing;
use crate::event::{self, Event, EventKind, MessageChange, last_covered, marker};
use crate::execute::my_reactions;
use crate::identity::Identity;
use crate::resume::{Resume, Source};
use crate::store::keys::{self, Scope};
use crate::store::{RangeOptions, RunOptions, Store, StoreError, Transaction};
use crate::tailer::{SessionId, Standpoint, Tailers};
use crate::trim;
use crate::view;
use own_reads::OwnReads;

/// Events that may wait for a reader; one that lags further behind is closed and may resume.
const QUEUE_EVENTS_MAX: usize = 1024;

/// A user whose memberships change faster than this many tries is asked to come again.
const JOIN_TRIES_MAX: u32 = 20;

/// Messages that a session remembers to show again. Of more, the later ones stay as they are until
/// they change.
const STALE_MESSAGES_MAX: usize = 1_000;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionEnd {
    /// The reader was too slow; it may resume from its token.
    #[error("the reader is too slow; resume from the last token")]
    TooSlow,
    /// The node stops.
    #[error("this node is shutting down")]
    ShuttingDown,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What sessions need of the node.
#[derive(Clone, Debug)]
pub struct SessionContext {
    /// The store.
    pub store: Store,
    /// Who this node is.
    pub identity: Arc<Identity>,
    /// The tailers.
    pub tailers: Tailers,
}

/// What is missed in one shard.
struct Missed {
    shard: ShardId,
    /// Where it begins.
    after: ShardCursor,
    /// Where it ends.
    held: ShardCursor,
    resume: Resume,
}

/// One reader of the stream.
pub struct Session {
    context: SessionContext,
    id: SessionId,
    user: String,
    token: Cursor,
    live: mpsc::Receiver<Arc<Event>>,
    too_slow: CancellationToken,
    /// Ready to be sent.
    ready: VecDeque<api::Event>,
    /// What is missed since the token, per shard.
    resumes: VecDeque<Missed>,
    /// Shards of which the token covers more than this region holds.
    behind: BTreeSet<ShardId>,
    /// Messages of such shards that were shown as this region has them: when what is missing comes,
    /// they are shown again.
    stale: BTreeSet<MessageId>,
    own_reads: OwnReads,
}

impl Session {
    /// Opens a session after `since`, or from now.
    pub async fn open(
        context: SessionContext,
        user: String,
        since: Option<Cursor>,
    ) -> Result<Self, SessionEnd> {
        let mut memberships = memberships(&context.store, &user).await?;
        let mut tries = 0;
        let (mut session, standpoints) = loop {
            let (events, live) = mpsc::channel(QUEUE_EVENTS_MAX);
            let session = Self {
                context: context.clone(),
                id: SessionId::next(),
                user: user.clone(),
                token: Cursor::new(),
                live,
                too_slow: CancellationToken::new(),
                ready: VecDeque::new(),
                resumes: VecDeque::new(),
                behind: BTreeSet::new(),
                stale: BTreeSet::new(),
                own_reads: OwnReads::new(),
            };
            let followed: Vec<ConversationId> = memberships
                .iter()
                .filter(|(_, member)| member.standing().is_some_and(Standing::is_in))
                .map(|(conversation, _)| *conversation)
                .collect();
            let tailers = &session.context.tailers;
            let standpoints = tailers
                .join(session.id, &user, &followed, &events, &session.too_slow)
                .await
                .ok_or(SessionEnd::ShuttingDown)?;
            // Was the user added to a conversation, or removed, before the tailers knew of this
            // session? Then its events would be in neither the feeds that we read nor the queue.
            let again = self::memberships(&context.store, &user).await?;
            tries += 1;
            if again == memberships {
                break (session, standpoints);
            }
            if tries == JOIN_TRIES_MAX {
                return Err(SessionEnd::TooSlow);
            }
            memberships = again;
        };
        let now: Cursor = (0..)
            .map(ShardId)
            .zip(standpoints.iter().map(|at| at.held.clone()))
            .collect();
        session.token = since.unwrap_or_default();
        // A shard that the token does not name is followed from now.
        for (shard, held) in now.iter() {
            if session.token.shard(shard).is_none() {
                *session.token.shard_mut(shard) = held.clone();
            }
        }
        session.tell_if_gap(&now).await?;
        session.tell_if_behind(&now);
        let sources = session.sources(memberships, &standpoints).await?;
        session.plan_resumes(&sources, standpoints);
        Ok(session)
    }

    /// The token of what was given out so far.
    pub fn token(&self) -> &Cursor {
        &self.token
    }

    /// The next event that need not be waited for.
    pub async fn next_missed(&mut self) -> Result<Option<api::Event>, SessionEnd> {
        loop {
            if self.too_slow.is_cancelled() {
                return Err(SessionEnd::TooSlow);
            }
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(missed) = self.resumes.front_mut() else {
                return Ok(None);
            };
            match missed.resume.next(&self.context.store).await? {
                None => {
                    // Nothing up to here need be looked at again.
                    self.token.shard_mut(missed.shard).join(&missed.held);
                    let (shard, after) = (missed.shard, missed.after.clone());
                    self.resumes.pop_front();
                    // It may have been trimmed while it was read.
                    let floors = trim::floors(&self.context.store).await?;
                    if floors.shard(shard).is_some_and(|at| !after.covers_all(at)) {
                        self.push_gap();
                    }
                }
                Some(missed) => {
                    let (scope, place, happening) = missed;
                    let event = event::read(&self.context.store, scope, place, happening).await?;
                    self.own_reads.read_missed();
                    self.tell(&event).await?;
                }
            }
        }
    }

    /// Waits for an event of the tailers. Safe to cancel: nothing is lost.
    pub async fn recv(&mut self) -> Result<Arc<Event>, SessionEnd> {
        tokio::select! {
            biased;
            () = self.too_slow.cancelled() => Err(SessionEnd::TooSlow),
            event = self.live.recv() => match event {
                Some(event) => Ok(event),
                // The tailer drops a session that it closes as too slow.
                None if self.too_slow.is_cancelled() => Err(SessionEnd::TooSlow),
                None => Err(SessionEnd::ShuttingDown),
            },
        }
    }

    /// An event that waits already.
    pub fn try_recv(&mut self) -> Option<Arc<Event>> {
        self.live.try_recv().ok()
    }

    /// Makes an event of the tailers personal and puts it where [`Session::next_missed`] finds it,
    /// unless the token covers it. To be called once all that was missed is read, for one event after
    /// the other.
    pub async fn take(&mut self, event: &Event) -> Result<(), StoreError> {
        if self.own_reads.may_be_ahead_of(event)
            && let (Some(place), Some(happening)) = (event.place, event.happening())
        {
            let event = event::read(&self.context.store, event.scope, place, happening).await?;
            self.own_reads.read_again(&event);
            return self.tell(&event).await;
        }
        self.tell(event).await
    }

    async fn tell(&mut self, event: &Event) -> Result<(), StoreError> {
        let shard = event.scope.shard;
        let covered = event.place.as_ref().is_some_and(|place| {
            let token = self.token.shard(shard);
            token.is_some_and(|covered| covered.covers(place))
        });
        if covered && !self.is_stale(event) {
            return Ok(());
        }
        let kind = self.personal(event, covered).await?;
        if let EventKind::Message { id, .. } = &event.kind
            && self.behind.contains(&shard)
            && self.stale.len() < STALE_MESSAGES_MAX
        {
            self.stale.insert(*id);
        }
        if let Some(place) = event.place {
            self.token.advance(shard, place.origin, place.at);
        }
        let Some((kind, marker)) = kind else {
            return Ok(());
        };
        // A receipt's cursor is the marker itself.
        let covers = marker.or_else(|| self.token.shard(shard).cloned());
        let cursor = Cursor::of(shard, covers.unwrap_or_default());
        self.ready.push_back(api::Event {
            kind,
            conversation: Some(event.scope.conversation.to_string()),
            token: self.token.to_string(),
            cursor: Some(cursor.to_string()),
        });
        Ok(())
    }

    /// Was its message shown without what this event brings, although the token covers that?
    fn is_stale(&self, event: &Event) -> bool {
        matches!(&event.kind, EventKind::Message { id, .. } if self.stale.contains(id))
    }

    /// What this user is told, and of a receipt the marker.
    async fn personal(
        &self,
        event: &Event,
        covered: bool,
    ) -> Result<Option<(api::EventKind, Option<ShardCursor>)>, StoreError> {
        let mut marker = None;
        let kind = match &event.kind {
            EventKind::Conversation => Some(api::EventKind::Conversation),
            EventKind::Member { user, standing } => {
                standing.map(|standing| api::EventKind::Member {
                    user: user.clone(),
                    role: view::membership(standing),
                })
            }
            EventKind::Receipt { user } => {
                let (covers, message) = self.receipt(&event.scope, user).await?;
                marker = Some(covers);
                Some(api::EventKind::Receipt {
                    user: user.clone(),
                    message: message.map(|id| id.to_string()),
                })
            }
            EventKind::Typing { user } if *user == self.user => None,
            EventKind::Typing { user } => Some(api::EventKind::Typing { user: user.clone() }),
            EventKind::Message { change, id, row } => {
                let change = if covered && *change == MessageChange::Posted {
                    Some(Shown::Moved)
                } else {
                    self.shown_change(event, *change, row)
                };
                let Some(change) = change else {
                    return Ok(None);
                };
                self.message(&event.scope, id, row).await?.map(|message| {
                    let message = Box::new(message);
                    match change {
                        Shown::Posted => api::EventKind::MessagePosted { message },
                        Shown::Moved => api::EventKind::MessageMoved { message },
                        Shown::Edited => api::EventKind::MessageEdited { message },
                        Shown::Redacted => api::EventKind::MessageRedacted { message },
                        Shown::Reacted => api::EventKind::MessageReacted { message },
                    }
                })
            }
        };
        Ok(kind.map(|kind| (kind, marker)))
    }

    /// A user's read marker, and the latest message that it covers, as far as this reader was told
    /// what there is: it may have grown since over messages of which they hear later.
    async fn receipt(
        &self,
        scope: &Scope,
        user: &str,
    ) -> Result<(ShardCursor, Option<MessageId>), StoreError> {
        let told = self.token.shard(scope.shard).cloned().unwrap_or_default();
        let (scope, user) = (*scope, user.to_owned());
        let read = move |tx: Arc<Transaction>| {
            let (user, told) = (user.clone(), told.clone());
            async move {
                let marker = marker(&tx, &scope, &user).await?.capped_at(&told);
                let message = last_covered(&tx, &scope, &marker).await?;
                Ok((marker, message.map(|(_, id)| id)))
            }
        };
        self.context.store.read(RunOptions::default(), read).await
    }

    /// A message that was given out from another place is not posted again; if it has moved since,
    /// that is told.
    fn shown_change(&self, event: &Event, change: MessageChange, row: &Message) -> Option<Shown> {
        match change {
            MessageChange::Edited => Some(Shown::Edited),
            MessageChange::Redacted => Some(Shown::Redacted),
            MessageChange::Reacted => Some(Shown::Reacted),
            MessageChange::Posted => {
                let covered = self.token.shard(event.scope.shard)?;
                let others = row
                    .places
                    .iter()
                    .filter(|(place, _)| Some(**place) != event.place);
                let shown_at = others
                    .filter(|(place, _)| covered.covers(place))
                    .map(|(_, position)| *position)
                    .min();
                match shown_at {
                    None => Some(Shown::Posted),
                    Some(shown_at) => (row.position() != Some(shown_at)).then_some(Shown::Moved),
                }
            }
        }
    }

    async fn message(
        &self,
        scope: &Scope,
        id: &MessageId,
        row: &Message,
    ) -> Result<Option<api::Message>, StoreError> {
        let Some(position) = row.position() else {
            return Ok(None);
        };
        let mine = if row.reactions.is_empty() {
            Vec::new()
        } else {
            let (scope, id, row, user) = (*scope, *id, row.clone(), self.user.clone());
            self.context
                .store
                .read(RunOptions::default(), move |tx| {
                    let (row, user) = (row.clone(), user.clone());
                    async move { my_reactions(&tx, &scope, &id, &row, &user).await }
                })
                .await?
        };
        let identity = &self.context.identity;
        Ok(view::message(
            identity,
            &scope.conversation,
            id,
            position,
            row,
            &mine,
        ))
    }

    /// What the token is followed by may be trimmed: the reader pages anew, and goes on from now.
    async fn tell_if_gap(&mut self, now: &Cursor) -> Result<(), StoreError> {
        let mut gap = false;
        for (shard, floors) in trim::floors(&self.context.store).await?.iter() {
            let after = self.token.shard_mut(shard);
            if !after.covers_all(floors) {
                gap = true;
                if let Some(held) = now.shard(shard) {
                    after.join(held);
                }
            }
        }
        if gap {
            self.push_gap();
        }
        Ok(())
    }

    fn push_gap(&mut self) {
        self.ready.push_back(api::Event {
            kind: api::EventKind::Gap,
            conversation: None,
            token: self.token.to_string(),
            cursor: None,
        });
    }

    /// This region may lack what the token covers: the reader is told, and the stream goes on.
    fn tell_if_behind(&mut self, now: &Cursor) {
        let mut waiting_for = BTreeSet::new();
        for (shard, covered) in self.token.iter() {
            let held = now.shard(shard).cloned().unwrap_or_default();
            let lacking: Vec<_> = held.lacks(covered).collect();
            if !lacking.is_empty() {
                self.behind.insert(shard);
            }
            let lacking = lacking.into_iter();
            waiting_for.extend(lacking.map(|o| self.context.identity.region_name(o.region)));
        }
        if !waiting_for.is_empty() {
            self.ready.push_back(api::Event {
                kind: api::EventKind::Behind {
                    waiting_for: waiting_for.into_iter().collect(),
                },
                conversation: None,
                token: self.token.to_string(),
                cursor: None,
            });
        }
    }

    /// The conversations whose feed is of interest: those of the user, and those that they were in
    /// after the token. Of what was told while they were out they hear nothing.
    async fn sources(
        &self,
        memberships: Vec<(ConversationId, Member)>,
        standpoints: &[Standpoint],
    ) -> Result<Vec<Source>, StoreError> {
        let mut sources = Vec::new();
        for (conversation, member) in memberships {
            let scope = self.context.identity.scope(conversation);
            let Some(value) = member.value() else {
                continue;
            };
            let is_in = value.standing.is_in();
            let mut source = Source {
                scope,
                from: None,
                until: None,
            };
            let after = self.token.shard(scope.shard).cloned().unwrap_or_default();
            if after.covers(&value.dot) {
                if is_in {
                    sources.push(source);
                }
                continue;
            }
            let Some(standpoint) = standpoints.get(usize::from(scope.shard.0)) else {
                continue;
            };
            let store = &self.context.store;
            let feed = Resume::new(std::slice::from_ref(&source), &after, standpoint);
            match feed.crossings(store, &self.user).await? {
                Some([(first, way), (last, last_way)]) => {
                    source.from = (way == Crossing::In).then_some(first);
                    if last_way == Crossing::Out {
                        // Events show the state of now: who is out hears of their removal alone,
                        // or they would read what was written after it.
                        source.from = Some(last);
                        source.until = Some(last);
                    }
                }
                None if is_in => {}
                // They never were in, e.g. banned beforehand.
                None => continue,
            }
            sources.push(source);
        }
        Ok(sources)
    }

    fn plan_resumes(&mut self, sources: &[Source], standpoints: Vec<Standpoint>) {
        for (shard, standpoint) in (0..).map(ShardId).zip(standpoints) {
            let of_shard: Vec<Source> = sources
                .iter()
                .filter(|source| source.scope.shard == shard)
                .cloned()
                .collect();
            let after = self.token.shard(shard).cloned().unwrap_or_default();
            if !after.covers_all(&standpoint.held) {
                let resume = Resume::new(&of_shard, &after, &standpoint);
                self.resumes.push_back(Missed {
                    shard,
                    after,
                    held: standpoint.held,
                    resume,
                });
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.context.tailers.leave(self.id);
    }
}

enum Shown {
    Posted,
    Moved,
    Edited,
    Redacted,
    Reacted,
}

/// All of a user's memberships, past ones too.
async fn memberships(
    store: &Store,
    user: &str,
) -> Result<Vec<(ConversationId, Member)>, StoreError> {
    let (begin, end) = keys::memberships(user);
    store
        .read(RunOptions::default(), move |tx| {
            let (begin, end) = (begin.clone(), end.clone());
            async move {
                let options = RangeOptions {
                    snapshot: true,
                    ..RangeOptions::default()
                };
                let rows = tx.range_all(&begin, &end, options).await?;
                let member = |(key, value): (crate::store::Key, crate::store::Value)| {
                    Ok((
                        keys::membership_conversation(&key)?,
                        Member::decode(&value)?,
                    ))
                };
                rows.into_iter()
                    .map(member)
                    .collect::<Result<_, _>>()
                    .map_err(corrupt)
            }
        })
        .await
}
