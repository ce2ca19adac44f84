//! What a session missed in one shard: a merge of its conversations' feeds in order of arrival.
//!
//! The order of arrival in this region is one in which every event follows what it depends on.
//! Only what arrived up to a fixed point is read: all of it is committed, so no row can appear
//! behind the merge's back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{OpStamp, Origin, Place, Stamp};

use crate::apply::corrupt;
use crate::apply::rows::{Crossing, FeedRow, Happening};
use crate::store::keys::{self, Scope};
use crate::store::{RangeOptions, RunOptions, Store, StoreError};
use crate::tailer::Standpoint;

/// Rows that one feed keeps in memory, where there are few of them.
const PAGE_ROWS: usize = 64;
/// Rows that all feeds of a shard keep in memory, but at least one each.
const ROWS_MAX: usize = 4096;

/// A conversation whose feed is read.
#[derive(Clone, Debug)]
pub struct Source {
    /// The conversation.
    pub scope: Scope,
    /// The op by which the user joined: what came before is left out.
    pub from: Option<Order>,
    /// The op by which they got out: the last that they are told.
    pub until: Option<Order>,
}

/// Arrival of the batch, index of the op in it: a batch may hold a removal and what came after.
pub type Order = (OpStamp, u16);

#[derive(Debug)]
struct Feed {
    source: Source,
    origin: Origin,
    after: Option<OpStamp>,
    rows: VecDeque<(Order, OpStamp, Happening)>,
    more: bool,
}

/// The merge; give it to `next` until it is empty.
#[derive(Debug)]
pub struct Resume {
    feeds: Vec<Feed>,
    heap: BinaryHeap<Reverse<(Order, usize)>>,
    until: OpStamp,
    started: bool,
}

impl Resume {
    /// What arrived after `after` and up to where the tailer stood.
    pub fn new(sources: &[Source], after: &ShardCursor, standpoint: &Standpoint) -> Self {
        let feeds = sources.iter().flat_map(|source| {
            // Only origins of which something new arrived.
            after.lacks(&standpoint.held).map(|origin| Feed {
                source: source.clone(),
                origin,
                after: after.get(&origin),
                rows: VecDeque::new(),
                more: true,
            })
        });
        let feeds: Vec<Feed> = feeds.collect();
        let until = standpoint
            .arrival
            .unwrap_or(OpStamp::whole(whimbrel_replication::id::Stamp::MIN));
        Self {
            feeds,
            heap: BinaryHeap::new(),
            until,
            started: false,
        }
    }

    /// The first and the last op by which a user got in or out, also such as arrived since the
    /// tailer stood there.
    pub async fn crossings(
        mut self,
        store: &Store,
        user: &str,
    ) -> Result<Option<[(Order, Crossing); 2]>, StoreError> {
        self.until = OpStamp::whole(Stamp::MAX);
        let mut ends: Option<[(Order, Crossing); 2]> = None;
        while let Some((order, _, _, happening)) = self.step(store).await? {
            if let Happening::Member {
                user: of,
                crossed: Some(crossing),
            } = happening
                && of == user
            {
                let this = (order, crossing);
                ends = Some([ends.map_or(this, |[first, _]| first), this]);
            }
        }
        Ok(ends)
    }

    /// The next event, or `None` at the end.
    pub async fn next(
        &mut self,
        store: &Store,
    ) -> Result<Option<(Scope, Place, Happening)>, StoreError> {
        let next = self.step(store).await?;
        Ok(next.map(|(_, scope, place, happening)| (scope, place, happening)))
    }

    async fn step(
        &mut self,
        store: &Store,
    ) -> Result<Option<(Order, Scope, Place, Happening)>, StoreError> {
        if !self.started {
            for feed in 0..self.feeds.len() {
                self.refill(store, feed).await?;
            }
            self.started = true;
        }
        let Some(Reverse((order, feed))) = self.heap.pop() else {
            return Ok(None);
        };
        let (_, at, happening) = self.feeds[feed]
            .rows
            .pop_front()
            .expect("a feed on the heap has a row");
        self.refill(store, feed).await?;
        let Feed { source, origin, .. } = &self.feeds[feed];
        Ok(Some((
            order,
            source.scope,
            Place {
                origin: *origin,
                at,
            },
            happening,
        )))
    }

    /// Puts a feed's next row on the heap, reading a page if none is at hand.
    async fn refill(&mut self, store: &Store, index: usize) -> Result<(), StoreError> {
        let until = self.until;
        let page_rows = (ROWS_MAX / self.feeds.len().max(1)).clamp(1, PAGE_ROWS);
        let feed = &mut self.feeds[index];
        while feed.rows.is_empty() && feed.more {
            let (begin, end) = feed.source.scope.feed_after(feed.origin, feed.after);
            let page = store
                .read(RunOptions::default(), move |tx| {
                    let (begin, end) = (begin.clone(), end.clone());
                    async move {
                        let options = RangeOptions {
                            limit: page_rows,
                            snapshot: true,
                            ..RangeOptions::default()
                        };
                        tx.range(&begin, &end, options).await
                    }
                })
                .await?;
            feed.more = page.more;
            for (key, value) in &page.rows {
                let at = keys::stamp_of(key).map_err(corrupt)?;
                let (happening, arrival) = FeedRow::decode_happening(value, at).map_err(corrupt)?;
                feed.after = Some(at);
                let order = (arrival, at.index);
                if arrival > until || feed.source.until.is_some_and(|removal| order > removal) {
                    feed.more = false;
                    break;
                }
                if feed.source.from.is_none_or(|joined| order >= joined) {
                    feed.rows.push_back((order, at, happening));
                }
            }
        }
        if let Some((order, ..)) = self.feeds[index].rows.front() {
            self.heap.push(Reverse((*order, index)));
        }
        Ok(())
    }
}
