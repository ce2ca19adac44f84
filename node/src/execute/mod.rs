//! Executes one command in a transaction: checks it against the state, turns it into ops, applies
//! them. All checks of a command come before its first op, so that a refused one leaves no trace
//! and the rest of its batch goes on.

mod conversation;
mod message;

pub use message::my_reactions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use prost::Message as _;
use whimbrel_replication::clock::Clock;
use whimbrel_replication::crdt::member::Member;
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{ConversationId, Hlc, OpStamp, Place, Position, ShardId, Stamp};
use whimbrel_replication::op::{ConversationKind, Op, OpKind, Standing};

use crate::apply::rows::OpRow;
use crate::apply::{
    ApplyError, EditedLately, Wanted, Workspace, corrupt, last_row, others_held, own_tail,
};
use crate::command::{Action, Answer, Command, Done, Refusal};
use crate::config::Limits;
use crate::identity::Identity;
use crate::level::FeatureLevel;
use crate::store::keys::Scope;
use crate::store::{RangeOptions, StoreError, Transaction, Value};

/// What executing a command gave: the outer error concerns the whole transaction.
pub type Outcome = Result<Done, Refusal>;

/// What an execution needs and does not own.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who this node is.
    pub identity: Arc<Identity>,
    /// The node's clock.
    pub clock: Arc<Mutex<Clock>>,
    /// Configured limits.
    pub limits: Limits,
    /// What edits are made on.
    pub edited_lately: Arc<EditedLately>,
    /// Which format is written.
    pub level: Arc<FeatureLevel>,
}

/// The commands of one batch, in one attempt of its transaction.
pub struct Execution {
    context: Context,
    workspace: Workspace,
    shard: ShardId,
    deps: ShardCursor,
    now_unix_ms: i64,
    ops: Vec<Op>,
    /// The last stamp of the clock. A position above an absurd one may be larger.
    issued: Hlc,
    /// `k/` rows of the commands as they were before the batch; taken out when they are written.
    op_rows: BTreeMap<Vec<u8>, Option<Value>>,
    /// Last positions, before the batch, that the clock has not taken in.
    unobserved: BTreeMap<Scope, Option<Position>>,
}

impl Execution {
    /// Reads what the batch depends on and what its commands are sure to need, all at once.
    pub async fn begin(
        context: Context,
        tx: Arc<Transaction>,
        shard: ShardId,
        now_unix_ms: i64,
        commands: &[Command],
    ) -> Result<Self, StoreError> {
        let (shards, lately) = (context.identity.shards, context.edited_lately.clone());
        let mut workspace = Workspace::new(tx.clone(), shards, lately);
        let (mut wanted, mut op_keys, mut posted_to) =
            (Wanted::default(), BTreeSet::new(), BTreeSet::new());
        for command in commands {
            let scope = workspace.scope(command.conversation);
            op_keys.insert(scope.op(&command.op_id()));
            wanted.add_member(scope, &command.actor);
            match &command.action {
                Action::Post {
                    message, reply_to, ..
                } => {
                    posted_to.insert(scope);
                    wanted.add_message(scope, *message);
                    if let Some(parent) = reply_to {
                        wanted.add_message(scope, *parent);
                    }
                }
                Action::Edit { message, .. }
                | Action::Redact { message }
                | Action::React { message, .. } => wanted.add_message(scope, *message),
                Action::SetMember { user, .. } | Action::RemoveMember { user, .. } => {
                    wanted.add_member(scope, user);
                }
                Action::Create { .. } | Action::Change { .. } | Action::Read { .. } => {}
            }
        }
        let op_rows = op_keys.into_iter().map(async |key| {
            let row = tx.get(&key, false).await?;
            Ok::<_, StoreError>((key, row))
        });
        let last_rows = posted_to.into_iter().map(async |scope| {
            let last = last_row(&tx, &scope).await?;
            Ok::<_, StoreError>((scope, last.map(|(position, _)| position)))
        });
        let (deps, op_rows, last_rows, ()) = tokio::try_join!(
            others_held(&tx, shard),
            try_join_all(op_rows),
            try_join_all(last_rows),
            workspace.load(wanted)
        )?;
        Ok(Self {
            context,
            workspace,
            shard,
            deps,
            now_unix_ms,
            ops: Vec::new(),
            issued: Hlc::default(),
            op_rows: op_rows.into_iter().collect(),
            unobserved: last_rows.into_iter().collect(),
        })
    }

    /// Executes one command.
    pub async fn execute(&mut self, command: &Command) -> Result<Outcome, StoreError> {
        let scope = self.workspace.scope(command.conversation);
        let replayed = match self.is_replay(&scope, command).await? {
            Ok(replayed) => replayed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let before = self.ops.len();
        let outcome = match &command.action {
            Action::Create {
                kind,
                title,
                topic,
                members,
            } => {
                let fields = (title.clone(), topic.clone());
                self.create(&scope, command, *kind, fields, members).await?
            }
            Action::Change { title, topic } => {
                self.change(&scope, command, replayed, title, topic).await?
            }
            Action::SetMember { user, role } => {
                self.set_role(&scope, command, replayed, user, *role)
                    .await?
            }
            Action::RemoveMember { user, ban } => {
                self.remove_member(&scope, command, replayed, user, *ban)
                    .await?
            }
            Action::Post { .. } => self.post(&scope, command).await?,
            Action::Edit {
                message,
                base,
                text,
            } => self.edit(&scope, command, message, base, text).await?,
            Action::Redact { message } => self.redact(&scope, command, message).await?,
            Action::React {
                message,
                emoji,
                present,
            } => {
                self.react(&scope, command, replayed, message, emoji, *present)
                    .await?
            }
            Action::Read { marker } => self.mark_read(&scope, command, marker).await?,
        };
        let wrote = self.ops.len() > before;
        if wrote {
            let row = OpRow {
                request: command.request_hash().to_vec(),
            };
            let key = scope.op(&command.op_id());
            self.workspace.tx().set(&key, &row.encode_to_vec());
            self.op_rows.remove(&key);
        }
        let places = match &command.action {
            Action::Post { message, .. } if outcome.is_ok() => {
                let row = self.workspace.message(&scope, message).await?;
                row.map_or(Vec::new(), |row| row.places.keys().copied().collect())
            }
            _ => Vec::new(),
        };
        Ok(outcome.map(|(answer, existed)| Done {
            places,
            answer,
            replayed: replayed || existed,
            // Also what wrote nothing may show what its batch wrote before.
            last_index: (!self.ops.is_empty()).then(|| self.last_index()),
        }))
    }

    /// The last stamp that the clock gave for this batch.
    pub fn issued(&self) -> Hlc {
        self.issued
    }

    /// The ops so far, the cursor that they depend on, and the rows to be written.
    pub fn finish(mut self) -> (Vec<Op>, ShardCursor, Workspace) {
        self.workspace.finish();
        (self.ops, self.deps, self.workspace)
    }

    /// What this region holds of the other origins, as the transaction sees it.
    pub fn deps(&self) -> &ShardCursor {
        &self.deps
    }

    /// What this region holds, as the transaction sees it. Few commands need the own part, which
    /// takes a read of the log's end.
    pub async fn held(&self) -> Result<ShardCursor, StoreError> {
        let mut held = self.deps.clone();
        let own = self.context.identity.origin;
        if let Some(stamp) = own_tail(self.workspace.tx(), self.shard, own).await? {
            held.advance(own, OpStamp::whole(stamp));
        }
        Ok(held)
    }

    fn last_index(&self) -> u16 {
        u16::try_from(self.ops.len() - 1).expect("a batch holds fewer ops than BATCH_OPS_MAX")
    }

    async fn is_replay(
        &self,
        scope: &Scope,
        command: &Command,
    ) -> Result<Result<bool, Refusal>, StoreError> {
        let key = scope.op(&command.op_id());
        let row = match self.op_rows.get(&key) {
            Some(row) => row.clone(),
            // Another command of this batch has written it.
            None => self.workspace.tx().get(&key, false).await?,
        };
        let Some(row) = row else {
            return Ok(Ok(false));
        };
        let row = OpRow::decode(&row[..]).map_err(|error| corrupt(error.into()))?;
        Ok(if row.request == command.request_hash() {
            Ok(true)
        } else {
            Err(Refusal::Mismatch)
        })
    }

    /// Stamps an op, above `floor` where one is given, and applies it.
    async fn push(
        &mut self,
        command: &Command,
        floor: Option<Position>,
        kind: OpKind,
    ) -> Result<Position, StoreError> {
        let identity = &self.context.identity;
        let mut hlc = {
            let mut clock = self
                .context
                .clock
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            clock
                .next(self.now_unix_ms)
                .map_err(|e| StoreError::Unavailable(e.to_string().into()))?
        };
        self.issued = self.issued.max(hlc);
        if let Some(floor) = floor {
            hlc = hlc.max(Hlc(floor.hlc().0.saturating_add(1)));
        }
        let position = Position::new(hlc, identity.origin.region, identity.node);
        let op = Op {
            position,
            id: command.op_id(),
            actor: command.actor.clone(),
            conversation: command.conversation,
            kind,
            trace: command.trace,
        };
        let index = u16::try_from(self.ops.len()).expect("bounded by the batcher");
        let place = Place {
            origin: identity.origin,
            at: OpStamp::new(Stamp::PENDING, index),
        };
        match self.workspace.apply(place, &op, &self.deps, None).await {
            Ok(()) => {}
            Err(ApplyError::Store(error)) => return Err(error),
            Err(ApplyError::Op(reason)) => {
                return Err(StoreError::Fatal(
                    format!("an op of our own does not apply: {reason}").into(),
                ));
            }
        }
        self.ops.push(op);
        Ok(position)
    }

    /// The caller's standing, and the conversation, if they may see it.
    async fn see(
        &mut self,
        scope: &Scope,
        command: &Command,
    ) -> Result<Result<Seen, Refusal>, StoreError> {
        let standing = self
            .workspace
            .member(scope, &command.actor)
            .await?
            .and_then(whimbrel_replication::crdt::member::Member::standing);
        // Members see it whatever it is: their row alone decides, which saves a read per post.
        if standing.is_some_and(Standing::is_in) || command.is_admin {
            if standing.is_none() && self.workspace.conversation(scope).await?.is_none() {
                return Ok(Err(Refusal::NotFound("conversation")));
            }
            return Ok(Ok(Seen { standing }));
        }
        let row = self.workspace.conversation(scope).await?;
        let is_channel = row
            .and_then(|row| row.creation)
            .is_some_and(|creation| creation.kind == ConversationKind::Channel);
        let may_see = is_channel && standing != Some(Standing::Banned);
        Ok(if may_see {
            Ok(Seen { standing })
        } else {
            Err(Refusal::NotFound("conversation"))
        })
    }

    /// The standing that decides what the caller may do. Where no owner is left the longest-standing
    /// admin, else member, acts as owner.
    async fn authority(
        &self,
        scope: &Scope,
        command: &Command,
        standing: Option<Standing>,
    ) -> Result<Option<Standing>, StoreError> {
        if command.is_admin {
            return Ok(Some(Standing::Owner));
        }
        match standing {
            Some(Standing::Admin | Standing::Member) => {
                let row = self.workspace.conversation(scope).await?;
                // A direct conversation has members only, and nobody acts as its owner.
                let kind = row
                    .and_then(|row| row.creation)
                    .map(|creation| creation.kind);
                let acts = kind != Some(ConversationKind::Direct)
                    && acting_owner_of(&self.members(scope).await?) == Some(command.actor.as_str());
                Ok(if acts {
                    Some(Standing::Owner)
                } else {
                    standing
                })
            }
            other => Ok(other),
        }
    }
}

impl Execution {
    /// Members who are in, after the commands of this batch so far.
    async fn members(&self, scope: &Scope) -> Result<Members, StoreError> {
        let mut members = members(self.workspace.tx(), scope).await?;
        for (user, row) in self.workspace.members_at_work(scope) {
            members.retain(|(member, ..)| member != user);
            if let Some(value) = row.and_then(Member::value)
                && value.standing.is_in()
            {
                members.push((user.to_owned(), value.standing, value.position));
            }
        }
        Ok(members)
    }
}

/// User, standing, and since when.
pub type Members = Vec<(String, Standing, Position)>;

/// What a caller who may see a conversation is to it.
struct Seen {
    standing: Option<Standing>,
}

impl Seen {
    fn is_in(&self) -> bool {
        self.standing.is_some_and(Standing::is_in)
    }
}

/// Members who are in, with standing and since when.
pub async fn members(tx: &Transaction, scope: &Scope) -> Result<Members, StoreError> {
    let (begin, end) = scope.members();
    let options = RangeOptions {
        snapshot: true,
        ..RangeOptions::default()
    };
    let mut members = Vec::new();
    for (key, value) in tx.range_all(&begin, &end, options).await? {
        let row = Member::decode(&value).map_err(corrupt)?;
        if let Some(value) = row.value().filter(|v| v.standing.is_in()) {
            let user = scope.member_user(&key).map_err(corrupt)?;
            members.push((user, value.standing, value.position));
        }
    }
    Ok(members)
}

/// Who acts as owner where concurrent changes left none; `None` while there is an owner.
pub fn acting_owner_of(members: &[(String, Standing, Position)]) -> Option<&str> {
    members
        .iter()
        .min_by_key(|(_, standing, since)| (*standing, *since))
        .filter(|(_, standing, _)| *standing != Standing::Owner)
        .map(|(user, _, _)| user.as_str())
}

/// A conversation as the answer to a write; its cursor is filled in later.
fn conversation_answer(
    id: &ConversationId,
    row: &whimbrel_replication::crdt::conversation::Conversation,
    standing: Option<Standing>,
    existed: bool,
) -> Result<Answer, Refusal> {
    crate::view::conversation(id, row, standing, String::new())
        .map(|conversation| Answer::Conversation {
            conversation,
            existed,
        })
        .ok_or(Refusal::NotFound("conversation"))
}
