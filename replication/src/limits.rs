//! Limits of the replication core. Units stand in the names.

/// A batch as it is stored in the log.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Ops in one batch; an index is two bytes and [`u16::MAX`] means the whole batch.
pub const BATCH_OPS_MAX: usize = 512;
/// A cursor in its text form.
pub const CURSOR_TEXT_BYTES_MAX: usize = 8 * 1024;
/// Shards of a cluster.
pub const SHARDS_MAX: u16 = 64;
/// Regions of a cluster.
pub const REGIONS_MAX: usize = 16;
/// The text of a message that came out of a merge. A longer merge is cut at a character boundary.
pub const MERGED_TEXT_BYTES_MAX: usize = 64 * 1024;
/// The text of a post or an edit.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Operations inside one Automerge change: a new text, and the deletion of twice as much. An edit
/// that needs more starts a new text object instead of deleting character by character.
pub const CHANGE_OPS_MAX: usize = 3 * TEXT_BYTES_MAX;
/// One Automerge change, uncompressed: the text, at most one byte of metadata for each of its
/// bytes, and the hashes that it is made on.
pub const CHANGE_BYTES_MAX: usize = 56 * 1024;
/// Concurrent heads of a message's text that one edit can name as its base.
pub const REVISION_HEADS_MAX: usize = 1000;
/// The merged text and the heads of a message, as its row stores them. With more heads less of the
/// text is kept, so that no set of concurrent edits outgrows a stored value.
pub const MERGED_ROW_BYTES_MAX: usize = 70_000;
/// One head in a stored row.
pub const HEAD_BYTES: usize = 34;
/// What a batch needs besides one change: actor, ids, deps.
const BATCH_ENVELOPE_BYTES: usize = 8 * 1024;

const _: () = assert!(BATCH_OPS_MAX < u16::MAX as usize);
const _: () = assert!(CHANGE_BYTES_MAX + BATCH_ENVELOPE_BYTES <= BATCH_BYTES_MAX);
const _: () = assert!(2 * TEXT_BYTES_MAX < CHANGE_BYTES_MAX);
const _: () = assert!(TEXT_BYTES_MAX <= MERGED_TEXT_BYTES_MAX);
const _: () = assert!(MERGED_TEXT_BYTES_MAX < MERGED_ROW_BYTES_MAX);

// Links between regions.

/// One frame. A longer one is refused before it is read.
pub const FRAME_BYTES_MAX: usize = 512 * 1024;
/// What compression may add to a frame that it makes no smaller.
pub const FRAME_PACKING_BYTES_MAX: usize = 4 * 1024;
/// Batches in one frame, with [`BATCH_OVERHEAD_BYTES`] for each; one batch always fits.
pub const FRAME_BATCHES_BYTES_MAX: usize = 256 * 1024;
/// What stamp and protobuf add to a batch in a frame, at most.
pub const BATCH_OVERHEAD_BYTES: usize = 64;
/// Origins of one shard that a peer may name: regions that ever were, times their rebuilds.
pub const ORIGINS_MAX: usize = 128;
/// An origin with its stamp in a cursor on the wire, at most.
pub const CURSOR_ENTRY_BYTES_MAX: usize = 32;
/// A reason or a name from a peer; longer text is cut.
pub const PEER_TEXT_BYTES_MAX: usize = 256;
/// Logs that one link may subscribe to.
pub const LINK_SUBSCRIPTIONS_MAX: usize = SHARDS_MAX as usize * ORIGINS_MAX;
/// Sent but not acked, per subscription. Smaller: slower catch-up over long links. Larger: more is
/// sent again when a link breaks.
pub const SUBSCRIPTION_UNACKED_BYTES_MAX: usize = 1024 * 1024;
/// Sent but not acked, over all subscriptions of a link. Beyond it each subscription that has
/// nothing under way may still send one batch, so that what another batch waits for gets through.
pub const LINK_UNACKED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// One read of the log.
pub const LOG_READ_BYTES_MAX: usize = 256 * 1024;
/// Reads in a row that do not come to the end of a log, before its subscription counts as a backlog and
/// takes the bulk lane. More: more of a backlog stands before what is fresh. Fewer: a burst changes lanes,
/// which takes a round trip.
pub const BULK_AFTER_READS: u32 = 4;
/// Of zstd. Higher: less goes over the wire, and takes more of a processor.
pub const BULK_COMPRESSION_LEVEL: i32 = 1;
/// Received but not applied, per log (shard and origin). Beyond it batches are dropped and asked
/// for again.
pub const INBOUND_LOG_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Received but not applied, over all logs. Beyond it a log may still hold one frame, so that what
/// another batch waits for gets through.
pub const INBOUND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Batches that are handed to the store at once.
pub const APPLY_BATCHES_MAX: usize = 64;
/// Bytes that are handed to the store at once; one batch always goes.
pub const APPLY_BYTES_MAX: usize = 256 * 1024;
/// The rows of one page of a snapshot; the last of them goes over it.
pub const SNAPSHOT_PAGE_BYTES: usize = 256 * 1024;
/// A key in a snapshot; as long as the stores take it.
pub const SNAPSHOT_KEY_BYTES_MAX: usize = 10_000;
/// Shards whose snapshots are under way at once. More: faster over long links, and live batches wait
/// longer behind their pages.
pub const SNAPSHOT_SHARDS_MAX: usize = 4;
/// Questions on one link that are not answered yet.
pub const LINK_QUESTIONS_MAX: usize = 4;
/// A question, or the answer to one.
pub const QUESTION_BYTES_MAX: usize = 500 * 1024;
/// Frames that wait to be written to one link; a link that is fuller is closed.
pub const LINK_QUEUE_FRAMES_MAX: usize = 8 * 1024;
/// Bytes that wait to be written to one link; a link that is fuller is closed.
pub const LINK_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Connections that have not shown yet who they are.
pub const PENDING_CONNECTIONS_MAX: usize = 64;
/// Links of one region that pull from us.
pub const LINKS_PER_PEER_MAX: usize = 64;
/// Asked of the system for each UDP socket, in each direction.
pub const UDP_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// QUIC window of a link. Larger: faster over long links, more memory for a peer that sends faster
/// than we apply.
pub const QUIC_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

const _: () = assert!(LINK_QUEUE_BYTES_MAX > 4 * LINK_UNACKED_BYTES_MAX);
const _: () = assert!(SNAPSHOT_PAGE_BYTES + 3 * SNAPSHOT_KEY_BYTES_MAX + 100_000 < FRAME_BYTES_MAX);
const _: () = assert!(QUESTION_BYTES_MAX + 1024 < FRAME_BYTES_MAX);
const _: () = assert!(QUIC_WINDOW_BYTES as usize > LINK_UNACKED_BYTES_MAX);
const _: () = assert!(FRAME_BATCHES_BYTES_MAX + BATCH_BYTES_MAX + 4096 < FRAME_BYTES_MAX);
const _: () =
    assert!(SHARDS_MAX as usize * ORIGINS_MAX * CURSOR_ENTRY_BYTES_MAX + 4096 < FRAME_BYTES_MAX);
const _: () =
    assert!(INBOUND_LOG_BYTES_MAX > SUBSCRIPTION_UNACKED_BYTES_MAX + FRAME_BATCHES_BYTES_MAX);

// Relays between regions, which make links bad on purpose.

/// The longest delay of a relayed datagram.
pub const RELAY_DELAY_MS_MAX: u32 = 60_000;
/// The least bandwidth of a relay.
pub const RELAY_RATE_BITS_MIN: u64 = 1_000;
/// What a relay of limited bandwidth lets through at once after a pause.
pub const RELAY_BURST_BYTES: usize = 16 * 1024;
/// What waits before the narrow place of a relay of limited bandwidth; half a second at 1 Mbit/s.
pub const RELAY_QUEUE_BYTES: usize = 64 * 1024;
/// Datagrams that one relay holds until they are due, in both directions, each with
/// [`RELAY_HELD_OVERHEAD_BYTES`]. More are dropped: a long delay at a high rate wants more.
pub const RELAY_HELD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What holding a datagram costs besides its bytes, at most.
pub const RELAY_HELD_OVERHEAD_BYTES: usize = 128;
/// Addresses that dial one relay. The one that was silent for longest makes room for another.
pub const RELAY_CLIENTS_MAX: usize = 64;
/// Datagrams that wait in a relay on their way back.
pub const RELAY_ANSWERS_MAX: usize = 1_024;
/// One line of the protocol that steers relays.
pub const RELAY_LINE_BYTES_MAX: usize = 256 * 1024;
/// Programs that steer relays at once; further ones wait.
pub const RELAY_STEERERS_MAX: usize = 16;

const _: () = assert!(RELAY_BURST_BYTES < RELAY_QUEUE_BYTES);
const _: () = assert!(RELAY_QUEUE_BYTES < RELAY_HELD_BYTES_MAX);
