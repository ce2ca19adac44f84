//! The key space. All state of a conversation stands under its shard, so that a shard can be
//! enumerated. Keys are tuples, encoded by `foundationdb-tuple` for every engine.

use foundationdb_tuple::{Versionstamp, pack, unpack};
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::{
    ChangeHash, ConversationId, MessageId, NodeId, OpId, OpStamp, Origin, Position, RegionId,
    ShardId, Stamp,
};

/// A key, possibly with a stamp in it that the store fills in at commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where the pending stamp stands.
    pub stamp_offset: Option<usize>,
}

/// First and last-plus-one key of a range.
pub type Range = (Vec<u8>, Vec<u8>);

/// All keys that start with `prefix`, a packed tuple.
fn below(prefix: Vec<u8>) -> Range {
    let mut begin = prefix.clone();
    let mut end = prefix;
    begin.push(0x00);
    end.push(0xff);
    (begin, end)
}

/// A key that ends in an op's stamp.
fn stamped(mut prefix: Vec<u8>, at: OpStamp) -> Key {
    let stamp = Versionstamp::complete(*at.stamp.as_bytes(), at.index);
    prefix.extend_from_slice(&pack(&stamp));
    // A packed versionstamp is its type code and twelve bytes.
    let offset = prefix.len() - OpStamp::LEN;
    Key {
        stamp_offset: (at.stamp == Stamp::PENDING).then_some(offset),
        bytes: prefix,
    }
}

/// The stamp at the end of a key of the log, of arrivals, posts or events.
pub fn stamp_of(key: &[u8]) -> Result<OpStamp, DecodeError> {
    let start = key
        .len()
        .checked_sub(OpStamp::LEN)
        .ok_or(DecodeError::Range("stamped key"))?;
    OpStamp::try_from(&key[start..])
}

/// The part of `prefix`'s range that comes after a stamp.
fn after(prefix: &[u8], at: OpStamp) -> Range {
    let mut begin = stamped(prefix.to_vec(), at).bytes;
    begin.push(0x00);
    (begin, below(prefix.to_vec()).1)
}

/// `meta/...`: what this store is.
pub fn meta(name: &str) -> Vec<u8> {
    pack(&("meta", name))
}

/// All that a store says of itself.
pub fn metas() -> Range {
    below(pack(&("meta",)))
}

/// `whole`: there once the store has held all that its peers held. It moves with the rest of a store.
pub fn whole() -> Vec<u8> {
    pack(&("whole",))
}

/// `gone`: since when something is deleted that is not merged out of the tables, milliseconds since 1970.
pub fn gone() -> Vec<u8> {
    pack(&("gone",))
}

/// `n/next`: the next node number, an 8-byte little-endian counter.
pub fn next_node() -> Vec<u8> {
    pack(&("n", "next"))
}

/// `h/node`: the highest clock value that a node has issued.
pub fn clock(node: NodeId) -> Vec<u8> {
    pack(&("h", node.0))
}

/// All of `h/`.
pub fn clocks() -> Range {
    below(pack(&("h",)))
}

/// `M/user/conversation`: the user's memberships.
pub fn membership(user: &str, conversation: &ConversationId) -> Vec<u8> {
    pack(&("M", user, conversation.as_bytes().as_slice()))
}

/// All of `M/user`.
pub fn memberships(user: &str) -> Range {
    below(pack(&("M", user)))
}

/// The conversation at the end of a key of [`memberships`].
pub fn membership_conversation(key: &[u8]) -> Result<ConversationId, DecodeError> {
    let (_, _, id): (String, String, Vec<u8>) =
        unpack(key).map_err(|_| DecodeError::Range("membership key"))?;
    id.as_slice().try_into()
}

/// `L/shard/origin/stamp`: a log batch.
pub fn log(shard: ShardId, origin: Origin, stamp: Stamp) -> Key {
    stamped(log_prefix(shard, origin), OpStamp::new(stamp, 0))
}

fn log_prefix(shard: ShardId, origin: Origin) -> Vec<u8> {
    pack(&("L", shard.0, origin.to_bytes().as_slice()))
}

/// All log batches of an origin.
pub fn log_all(shard: ShardId, origin: Origin) -> Range {
    below(log_prefix(shard, origin))
}

/// All logs of a shard.
pub fn logs(shard: ShardId) -> Range {
    below(pack(&("L", shard.0)))
}

/// The log batches of an origin after a stamp.
pub fn log_after(shard: ShardId, origin: Origin, stamp: Stamp) -> Range {
    after(&log_prefix(shard, origin), OpStamp::new(stamp, 0))
}

/// `A/shard/stamp`: arrival of a batch in this region; the index tells batches of one transaction
/// apart.
pub fn arrival(shard: ShardId, at: OpStamp) -> Key {
    stamped(pack(&("A", shard.0)), at)
}

/// Arrivals after one.
pub fn arrivals_after(shard: ShardId, at: Option<OpStamp>) -> Range {
    let prefix = pack(&("A", shard.0));
    match at {
        Some(at) => after(&prefix, at),
        None => below(prefix),
    }
}

/// `V/shard/origin`: the last applied stamp of another origin.
pub fn applied(shard: ShardId, origin: Origin) -> Vec<u8> {
    pack(&("V", shard.0, origin.to_bytes().as_slice()))
}

/// All of `V/shard`.
pub fn applied_all(shard: ShardId) -> Range {
    below(pack(&("V", shard.0)))
}

/// The origin at the end of a key of [`applied_all`].
pub fn applied_origin(key: &[u8]) -> Result<Origin, DecodeError> {
    let (_, _, origin): (String, u16, Vec<u8>) =
        unpack(key).map_err(|_| DecodeError::Range("applied key"))?;
    Origin::try_from(origin.as_slice())
}

/// `T/shard/origin`: the last op that was trimmed of a log.
pub fn trimmed(shard: ShardId, origin: Origin) -> Vec<u8> {
    pack(&("T", shard.0, origin.to_bytes().as_slice()))
}

/// All of `T/`.
pub fn trimmed_all() -> Range {
    below(pack(&("T",)))
}

/// The log that a key of [`trimmed_all`] belongs to.
pub fn trimmed_log(key: &[u8]) -> Result<(ShardId, Origin), DecodeError> {
    let (_, shard, origin): (String, u16, Vec<u8>) =
        unpack(key).map_err(|_| DecodeError::Range("trim key"))?;
    Ok((ShardId(shard), Origin::try_from(origin.as_slice())?))
}

/// `S/shard`: how far the snapshot of a shard has come, if one was ever taken.
pub fn snapshot(shard: ShardId) -> Vec<u8> {
    pack(&("S", shard.0))
}

/// `P/peer/shard/origin`: up to where the store of a peer, in this life of it, holds a log.
pub fn peer_holds(peer: Origin, shard: ShardId, origin: Origin) -> Vec<u8> {
    pack(&(
        "P",
        peer.to_bytes().as_slice(),
        shard.0,
        origin.to_bytes().as_slice(),
    ))
}

/// All of `P/`.
pub fn peers_hold() -> Range {
    below(pack(&("P",)))
}

/// All of `P/peer`.
pub fn peer_holds_all(peer: Origin) -> Range {
    below(pack(&("P", peer.to_bytes().as_slice())))
}

/// Peer, shard and origin of a key of [`peers_hold`].
pub fn peer_holds_parts(key: &[u8]) -> Result<(Origin, ShardId, Origin), DecodeError> {
    let (_, peer, shard, origin): (String, Vec<u8>, u16, Vec<u8>) =
        unpack(key).map_err(|_| DecodeError::Range("peer key"))?;
    Ok((
        Origin::try_from(peer.as_slice())?,
        ShardId(shard),
        Origin::try_from(origin.as_slice())?,
    ))
}

fn skipped_prefix(shard: ShardId, origin: Origin) -> Vec<u8> {
    pack(&("Q", shard.0, origin.to_bytes().as_slice()))
}

/// `Q/shard/origin/stamp`: a batch that an operator chose to pass.
pub fn skipped(shard: ShardId, origin: Origin, stamp: Stamp) -> Vec<u8> {
    stamped(skipped_prefix(shard, origin), OpStamp::new(stamp, 0)).bytes
}

/// All of `Q/shard/origin`.
pub fn skipped_of(shard: ShardId, origin: Origin) -> Range {
    below(skipped_prefix(shard, origin))
}

/// All of `Q/`.
pub fn skipped_all() -> Range {
    below(pack(&("Q",)))
}

/// The log that a key of [`skipped_all`] belongs to.
pub fn skipped_log(key: &[u8]) -> Result<(ShardId, Origin), DecodeError> {
    let (_, shard, origin, _): (String, u16, Vec<u8>, Versionstamp) =
        unpack(key).map_err(|_| DecodeError::Range("key of a skipped batch"))?;
    Ok((ShardId(shard), Origin::try_from(origin.as_slice())?))
}

/// `R/shard/conversation`: how far a conversation was repaired from what other regions know of it.
pub fn repaired(scope: &Scope) -> Vec<u8> {
    pack(&("R", scope.shard.0, scope.conversation.as_bytes().as_slice()))
}

/// `F/region`: the newest format of batches that all nodes of a region were last heard to read.
pub fn peer_format(region: RegionId) -> Vec<u8> {
    pack(&("F", region.0))
}

/// All of `F/`.
pub fn peer_formats() -> Range {
    below(pack(&("F",)))
}

/// The region of a key of [`peer_formats`].
pub fn peer_format_region(key: &[u8]) -> Result<RegionId, DecodeError> {
    let (_, region): (String, u16) =
        unpack(key).map_err(|_| DecodeError::Range("key of a format"))?;
    Ok(RegionId(region))
}

/// `B/shard/node`: number, attempt and stamp of the node's last batch.
pub fn last_batch(shard: ShardId, node: NodeId) -> Vec<u8> {
    pack(&("B", shard.0, node.0))
}

/// `W/shard`: changes after commits, so that the region's other nodes look.
pub fn wake(shard: ShardId) -> Vec<u8> {
    pack(&("W", shard.0))
}

/// `N/node`: a running node tells that it runs.
pub fn node(node: NodeId) -> Vec<u8> {
    pack(&("N", node.0))
}

/// All running nodes, and some that have ended.
pub fn nodes() -> Range {
    below(pack(&("N",)))
}

/// The node that a key of [`nodes`] belongs to.
pub fn node_of(key: &[u8]) -> Result<NodeId, DecodeError> {
    let (_, node): (String, u32) = unpack(key).map_err(|_| DecodeError::Range("node key"))?;
    Ok(NodeId(node))
}

/// `E/group`: which node may pull a group of shards.
pub fn lease(group: u16) -> Vec<u8> {
    pack(&("E", group))
}

/// `H/group`: the same as `E/group`, but written only when the holder changes: what a transaction
/// that pulls reads must not change with every renewal.
pub fn lease_holder(group: u16) -> Vec<u8> {
    pack(&("H", group))
}

/// All of `H/`.
pub fn lease_holders() -> Range {
    below(pack(&("H",)))
}

/// All leases.
pub fn leases() -> Range {
    below(pack(&("E",)))
}

/// The group that a key of [`leases`] belongs to.
pub fn lease_of(key: &[u8]) -> Result<u16, DecodeError> {
    let (_, group): (String, u16) = unpack(key).map_err(|_| DecodeError::Range("lease key"))?;
    Ok(group)
}

/// All conversations of a shard.
pub fn shard(shard: ShardId) -> Range {
    below(pack(&("d", shard.0)))
}

/// The conversation that a key of [`shard`] belongs to.
pub fn conversation_of(key: &[u8]) -> Result<ConversationId, DecodeError> {
    // The rest of the key differs per kind of row: only the first three elements are read.
    let error = || DecodeError::Range("conversation key");
    let elements: Vec<foundationdb_tuple::Element<'_>> = unpack(key).map_err(|_| error())?;
    match elements.get(2) {
        Some(foundationdb_tuple::Element::Bytes(id)) => ConversationId::try_from(id.as_ref()),
        _ => Err(error()),
    }
}

/// What a key of [`shard`] holds: the letter in its middle.
pub fn kind_of(key: &[u8]) -> Result<String, DecodeError> {
    let error = || DecodeError::Range("conversation key");
    let elements: Vec<foundationdb_tuple::Element<'_>> = unpack(key).map_err(|_| error())?;
    match elements.get(3) {
        Some(foundationdb_tuple::Element::String(kind)) => Ok(kind.to_string()),
        _ => Err(error()),
    }
}

/// What stands before all keys of [`shard`].
pub fn shard_prefix(shard: ShardId) -> Vec<u8> {
    pack(&("d", shard.0))
}

/// The keys of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Its shard.
    pub shard: ShardId,
    /// Its id.
    pub conversation: ConversationId,
}

impl Scope {
    /// Of a conversation in a cluster with this many shards.
    pub fn new(conversation: ConversationId, shards: u16) -> Self {
        Self {
            shard: conversation.shard(shards),
            conversation,
        }
    }

    fn prefix(&self, kind: &str) -> Vec<u8> {
        pack(&(
            "d",
            self.shard.0,
            self.conversation.as_bytes().as_slice(),
            kind,
        ))
    }

    /// All of this conversation.
    pub fn all(&self) -> Range {
        below(pack(&(
            "d",
            self.shard.0,
            self.conversation.as_bytes().as_slice(),
        )))
    }

    /// The first key after all of this conversation.
    pub fn end(&self) -> Vec<u8> {
        self.all().1
    }

    /// The first key after all of a kind.
    pub fn end_of(&self, kind: &str) -> Vec<u8> {
        below(self.prefix(kind)).1
    }

    /// `c`: the conversation.
    pub fn conversation(&self) -> Vec<u8> {
        self.prefix("c")
    }

    /// `m/user`: a member.
    pub fn member(&self, user: &str) -> Vec<u8> {
        let mut key = self.prefix("m");
        key.extend_from_slice(&pack(&user));
        key
    }

    /// All members.
    pub fn members(&self) -> Range {
        below(self.prefix("m"))
    }

    /// The user at the end of a key of [`Scope::members`].
    pub fn member_user(&self, key: &[u8]) -> Result<String, DecodeError> {
        let rest = key.get(self.prefix("m").len()..).unwrap_or_default();
        unpack(rest).map_err(|_| DecodeError::Range("member key"))
    }

    /// `s/message`: a message.
    pub fn message(&self, message: &MessageId) -> Vec<u8> {
        let mut key = self.prefix("s");
        key.extend_from_slice(&pack(&message.as_bytes().as_slice()));
        key
    }

    /// The message at the end of a key of [`Scope::message`].
    pub fn message_id(&self, key: &[u8]) -> Result<MessageId, DecodeError> {
        let rest = key.get(self.prefix("s").len()..).unwrap_or_default();
        let bytes: Vec<u8> = unpack(rest).map_err(|_| DecodeError::Range("message key"))?;
        bytes.as_slice().try_into()
    }

    /// `t/position`: the timeline.
    pub fn timeline(&self, position: &Position) -> Vec<u8> {
        let mut key = self.prefix("t");
        key.extend_from_slice(&pack(&position.as_bytes().as_slice()));
        key
    }

    /// The timeline, or the part of it strictly between two positions.
    pub fn timeline_between(&self, after: Option<&Position>, before: Option<&Position>) -> Range {
        let (mut begin, mut end) = below(self.prefix("t"));
        if let Some(after) = after {
            begin = self.timeline(after);
            begin.push(0x00);
        }
        if let Some(before) = before {
            end = self.timeline(before);
        }
        (begin, end)
    }

    /// The position at the end of a key of the timeline.
    pub fn timeline_position(&self, key: &[u8]) -> Result<Position, DecodeError> {
        let rest = key.get(self.prefix("t").len()..).unwrap_or_default();
        let bytes: Vec<u8> = unpack(rest).map_err(|_| DecodeError::Range("timeline key"))?;
        bytes.as_slice().try_into()
    }

    /// `e/message/change`: an edit.
    pub fn change(&self, message: &MessageId, change: &ChangeHash) -> Vec<u8> {
        let mut key = self.prefix("e");
        key.extend_from_slice(&pack(&(
            message.as_bytes().as_slice(),
            change.as_bytes().as_slice(),
        )));
        key
    }

    /// All edits of a message.
    pub fn changes(&self, message: &MessageId) -> Range {
        let mut prefix = self.prefix("e");
        prefix.extend_from_slice(&pack(&message.as_bytes().as_slice()));
        below(prefix)
    }

    /// Message and change at the end of a key of an edit.
    pub fn change_parts(&self, key: &[u8]) -> Result<(MessageId, ChangeHash), DecodeError> {
        let rest = key.get(self.prefix("e").len()..).unwrap_or_default();
        let (message, change): (Vec<u8>, Vec<u8>) =
            unpack(rest).map_err(|_| DecodeError::Range("edit key"))?;
        Ok((
            message.as_slice().try_into()?,
            change.as_slice().try_into()?,
        ))
    }

    /// `x/message/emoji/user`: a reaction.
    pub fn reaction(&self, message: &MessageId, emoji: &str, user: &str) -> Vec<u8> {
        let mut key = self.prefix("x");
        key.extend_from_slice(&pack(&(message.as_bytes().as_slice(), emoji, user)));
        key
    }

    /// All reactions to a message.
    pub fn reactions(&self, message: &MessageId) -> Range {
        let mut prefix = self.prefix("x");
        prefix.extend_from_slice(&pack(&message.as_bytes().as_slice()));
        below(prefix)
    }

    /// Message, emoji and user at the end of a key of [`Scope::reaction`].
    pub fn reaction_parts(&self, key: &[u8]) -> Result<(MessageId, String, String), DecodeError> {
        let rest = key.get(self.prefix("x").len()..).unwrap_or_default();
        let (message, emoji, user): (Vec<u8>, String, String) =
            unpack(rest).map_err(|_| DecodeError::Range("reaction key"))?;
        Ok((message.as_slice().try_into()?, emoji, user))
    }

    fn by_origin(&self, kind: &str, origin: Origin) -> Vec<u8> {
        let mut prefix = self.prefix(kind);
        prefix.extend_from_slice(&pack(&origin.to_bytes().as_slice()));
        prefix
    }

    /// `p/origin/stamp`: a post by place.
    pub fn post(&self, origin: Origin, at: OpStamp) -> Key {
        stamped(self.by_origin("p", origin), at)
    }

    /// Posts of an origin after a place.
    pub fn posts_after(&self, origin: Origin, at: Option<OpStamp>) -> Range {
        let prefix = self.by_origin("p", origin);
        match at {
            Some(at) => after(&prefix, at),
            None => below(prefix),
        }
    }

    /// Posts of an origin up to a place, inclusive.
    pub fn posts_up_to(&self, origin: Origin, at: OpStamp) -> Range {
        let prefix = self.by_origin("p", origin);
        let end = after(&prefix, at).0;
        (below(prefix).0, end)
    }

    /// `f/origin/stamp`: an event by place.
    pub fn feed(&self, origin: Origin, at: OpStamp) -> Key {
        stamped(self.by_origin("f", origin), at)
    }

    /// Events of an origin after a place.
    pub fn feed_after(&self, origin: Origin, at: Option<OpStamp>) -> Range {
        let prefix = self.by_origin("f", origin);
        match at {
            Some(at) => after(&prefix, at),
            None => below(prefix),
        }
    }

    /// `r/user/origin`: a read marker.
    pub fn marker(&self, user: &str, origin: Origin) -> Vec<u8> {
        let mut key = self.prefix("r");
        key.extend_from_slice(&pack(&(user, origin.to_bytes().as_slice())));
        key
    }

    /// A user's marker, all origins.
    pub fn marker_of(&self, user: &str) -> Range {
        let mut prefix = self.prefix("r");
        prefix.extend_from_slice(&pack(&user));
        below(prefix)
    }

    /// Everybody's markers.
    pub fn markers(&self) -> Range {
        below(self.prefix("r"))
    }

    /// User and origin at the end of a key of [`Scope::markers`].
    pub fn marker_parts(&self, key: &[u8]) -> Result<(String, Origin), DecodeError> {
        let rest = key.get(self.prefix("r").len()..).unwrap_or_default();
        let (user, origin): (String, Vec<u8>) =
            unpack(rest).map_err(|_| DecodeError::Range("marker key"))?;
        Ok((user, Origin::try_from(origin.as_slice())?))
    }

    /// `k/op`: a local op, to answer its replays.
    pub fn op(&self, op: &OpId) -> Vec<u8> {
        let mut key = self.prefix("k");
        key.extend_from_slice(&pack(&op.as_bytes().as_slice()));
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamped_keys_sort_by_stamp_and_tell_it() {
        let scope = Scope::new(ConversationId::direct("a", "b"), 16);
        let origin = Origin::from([0, 1, 0, 0, 0, 9]);
        let at = |version, index| OpStamp::new(Stamp::new(version, 0), index);
        let keys: Vec<_> = [at(1, 0), at(1, 7), at(2, 0)]
            .map(|at| scope.post(origin, at).bytes)
            .into();
        assert!(keys.is_sorted());
        assert_eq!(stamp_of(&keys[1]), Ok(at(1, 7)));
        let (begin, end) = scope.posts_after(origin, Some(at(1, 0)));
        assert!(keys[0] < begin && begin <= keys[1] && keys[2] < end);
        let (begin, end) = scope.posts_up_to(origin, at(1, 7));
        assert!(begin <= keys[0] && keys[1] < end && end <= keys[2]);
    }

    #[test]
    fn a_pending_key_says_where_its_stamp_goes() {
        let key = log(ShardId(3), Origin::from([0; 6]), Stamp::PENDING);
        let at = key.stamp_offset.expect("pending");
        assert_eq!(key.bytes[at..at + 10], [0xff; 10]);
        assert_eq!(
            log(ShardId(3), Origin::from([0; 6]), Stamp::new(1, 0)).stamp_offset,
            None
        );
    }

    #[test]
    fn ids_come_back_out_of_keys() {
        let scope = Scope::new(ConversationId::from_bytes([0; 16]), 16);
        let message = MessageId::from_bytes([0; 16]);
        let key = scope.reaction(&message, "👍", "a\0b");
        assert_eq!(
            scope.reaction_parts(&key),
            Ok((message, "👍".into(), "a\0b".into()))
        );
        assert_eq!(conversation_of(&key), Ok(scope.conversation));
        let key = membership("ada", &scope.conversation);
        assert_eq!(membership_conversation(&key), Ok(scope.conversation));
        let origin = Origin::from([0, 1, 0, 0, 0, 9]);
        assert_eq!(applied_origin(&applied(ShardId(300), origin)), Ok(origin));
        assert_eq!(
            scope.marker_parts(&scope.marker("ada", origin)),
            Ok(("ada".into(), origin))
        );
    }
}
