//! Moves a region from its embedded store into a shared one, where it goes on as a new origin.
//!
//! All rows are copied as they are, in order of key, save what the store says of itself: that is
//! written last, so no node can start on half a copy. How far it came is committed with each part, so
//! a move that was interrupted goes on where it stood, unless the old store was used since.
//!
//! The order of arrival is that of the stores' own versions, so those of the new store must be above
//! those of the old one. FoundationDB's grow by a million a second, an embedded store's by one a commit.

mod bar;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;
use whimbrel_replication::id::{ConversationId, Origin, ShardId, Stamp};

pub use bar::Bar;

use crate::apply::corrupt;
use crate::clock::unix_ms;
use crate::config::Config;
use crate::digest::{self, Digests};
use crate::origin::{self, Facts, Found, Moved, Moving};
use crate::store::keys::Scope;
use crate::store::limits::KEYS_END;
use crate::store::{
    Key, Page, RangeOptions, RunOptions, Store, StoreError, Transaction, Value, key_after, keys,
};

/// Bytes of a transaction that copies: well below what a store takes at once.
const PART_BYTES: usize = 400_000;
/// Rows of it: small ones weigh more than their bytes.
const PART_ROWS: usize = 2_000;
/// Conversations that are compared at once.
const COMPARED_AT_ONCE: usize = 16;

/// What a move is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The old store was used since an earlier attempt: it begins anew.
    Anew,
    /// So many rows are to be copied, and so many of them are there from an earlier attempt.
    Begun {
        /// In all.
        rows: u64,
        /// Copied before.
        done: u64,
    },
    /// Rows that are copied by now.
    Copied(u64),
    /// Conversations that are to be compared.
    Comparing(u64),
    /// Conversations that were compared by now.
    Compared(u64),
}

/// What was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Rows in all.
    pub rows: u64,
    /// Conversations, with equal digests in both stores.
    pub conversations: u64,
    /// The digest of all of them.
    pub digest: blake3::Hash,
    /// The origin that the region was.
    pub before: Origin,
    /// The origin that it goes on as.
    pub after: Origin,
}

/// Moves what is in `from` to `to`, of which the config says that it is the region's store. Nobody
/// else may use `from`. `None` if `shutdown` came before the end.
///
/// # Errors
///
/// When there is nothing to move, or no room for it; when the copies differ; those of the stores.
/// Running it again goes on.
pub async fn run(
    from: &Store,
    to: &Store,
    config: &Config,
    shutdown: &CancellationToken,
    mut progress: impl FnMut(Progress),
) -> anyhow::Result<Option<Summary>> {
    let this = Migration {
        from,
        to,
        config,
        facts: Facts::of(config),
    };
    let mut moving = this.begin(&mut progress).await?;
    let copied = this.copy(&mut moving, shutdown, &mut progress).await?;
    let Some(last_stamp) = copied else {
        return Ok(None);
    };
    this.check_versions(last_stamp).await?;
    let compared = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(None),
        compared = this.compare(&mut progress) => compared?,
    };
    let all = match compared {
        Ok(all) => all,
        Err(difference) => {
            this.take_over(&moving.anew()).await?;
            bail!(
                "{difference} in {}, which somebody else has written to, or which is damaged; \
                 what was copied is cleared, run this again",
                origin::place(config)
            );
        }
    };
    let (before, after) = this.end(&moving).await?;
    Ok(Some(Summary {
        rows: moving.rows,
        conversations: all.len() as u64,
        digest: digest::total(&all),
        before,
        after,
    }))
}

struct Migration<'a> {
    from: &'a Store,
    to: &'a Store,
    config: &'a Config,
    facts: Facts,
}

impl Migration<'_> {
    /// Where to begin: at the start of the keys, or where an earlier attempt stood.
    async fn begin(&self, progress: &mut impl FnMut(Progress)) -> anyhow::Result<Moving> {
        let old_place = format!("data_dir: the store in {}", self.config.data_dir.display());
        let place = origin::place(self.config);
        let (incarnation, nodes, moved) = match self.look(self.from).await? {
            Found::Life {
                incarnation,
                nodes,
                moved,
            } => (incarnation, nodes, moved),
            Found::New => bail!("{old_place} holds nothing that could be moved"),
            Found::Other(name) => return Err(origin::other(&old_place, name)),
            Found::MovingIn(_) => bail!("{old_place} is half a copy itself"),
        };
        let fresh = Moving {
            incarnation,
            nodes,
            facts: self.facts.to_bytes(),
            attempt: rand::random(),
            ..Moving::default()
        };
        let found = self.look(self.to).await?;
        if let Some(moved) = moved
            && !(moved.place == place
                && matches!(&found, Found::MovingIn(old) if old.is_of(&fresh)))
        {
            // Only the last step of the move there may be missing.
            bail!(
                "{old_place} was moved to {} already; start the region's nodes there, or run \
                 `whimbrel-node restored` with the old section [store] first to move it once more",
                moved.place
            );
        }
        let moving = match found {
            Found::MovingIn(old) if old.is_of(&fresh) => Moving {
                attempt: fresh.attempt,
                ..old
            },
            Found::MovingIn(old) if old.facts != fresh.facts => bail!(
                "{place} is half a copy of another region's store; give a prefix of its own, or \
                 clear it with `fdbcli` if that move was given up"
            ),
            Found::MovingIn(_) => {
                progress(Progress::Anew);
                fresh
            }
            Found::New => {
                ensure!(
                    self.is_empty().await?,
                    "{place} holds rows that are not Whimbrel's; give it a prefix of its own"
                );
                fresh
            }
            Found::Life { .. } | Found::Other(_) => bail!(
                "{place} is in use by a region already; give an empty one, or start the region's \
                 nodes if this is where it was moved to"
            ),
        };
        self.take_over(&moving).await?;
        let rows = moving.rows + self.count_after(&moving.last).await?;
        progress(Progress::Begun {
            rows,
            done: moving.rows,
        });
        Ok(moving)
    }

    async fn look(&self, store: &Store) -> anyhow::Result<Found> {
        let facts = self.facts.clone();
        let found = store
            .read(RunOptions::default(), move |tx| {
                let facts = facts.clone();
                async move { origin::look(&tx, &facts).await }
            })
            .await?;
        Ok(found)
    }

    async fn is_empty(&self) -> anyhow::Result<bool> {
        let page = self.to.read(RunOptions::default(), |tx| async move {
            let options = RangeOptions {
                limit: 1,
                ..RangeOptions::default()
            };
            tx.range(FIRST, KEYS_END, options).await
        });
        Ok(page.await?.rows.is_empty())
    }

    /// From now on only this attempt writes to the new store. With nothing copied yet it is cleared.
    async fn take_over(&self, moving: &Moving) -> anyhow::Result<()> {
        let moving = moving.clone();
        let taken = self.to.run(RunOptions::default(), move |tx| {
            let moving = moving.clone();
            async move {
                // Somebody else may have begun since the look.
                let is_free = match origin::moving(&tx).await? {
                    Some(old) => old.facts == moving.facts,
                    None => tx.get(&keys::meta("incarnation"), false).await?.is_none(),
                };
                if is_free {
                    if moving.last.is_empty() {
                        tx.clear_range(FIRST, KEYS_END);
                    }
                    origin::mark_moving(&tx, &moving);
                }
                Ok(is_free)
            }
        });
        ensure!(taken.await?.value, "{}", self.taken());
        Ok(())
    }

    fn taken(&self) -> String {
        let place = origin::place(self.config);
        format!("{place} was taken over by another `whimbrel-node migrate`; only one may run")
    }

    /// A part of the old store's rows; also those that stay behind.
    async fn part(&self, last: &[u8]) -> anyhow::Result<Page> {
        let begin = after(last);
        let page = self.from.read(RunOptions::default(), move |tx| {
            let begin = begin.clone();
            async move {
                let options = RangeOptions {
                    limit: PART_ROWS,
                    bytes: PART_BYTES,
                    snapshot: true,
                    ..RangeOptions::default()
                };
                tx.range(&begin, KEYS_END, options).await
            }
        });
        Ok(page.await?)
    }

    async fn count_after(&self, last: &[u8]) -> anyhow::Result<u64> {
        let (mut last, mut rows) = (last.to_vec(), 0);
        loop {
            let page = self.part(&last).await?;
            rows += page.rows.len() as u64;
            match page.rows.last() {
                Some((key, _)) if page.more => last = key.to_vec(),
                _ => return Ok(rows),
            }
        }
    }

    /// Copies what is left; gives the stamp of a commit after the last row, or `None` at `shutdown`.
    async fn copy(
        &self,
        moving: &mut Moving,
        shutdown: &CancellationToken,
        progress: &mut impl FnMut(Progress),
    ) -> anyhow::Result<Option<Stamp>> {
        let mut page = self.part(&moving.last).await?;
        loop {
            if shutdown.is_cancelled() {
                return Ok(None);
            }
            let more = page.more;
            let mut next = moving.clone();
            if let Some((key, _)) = page.rows.last() {
                next.last = key.to_vec();
            }
            next.rows += page.rows.len() as u64;
            let (rows, row) = (Arc::new(page.rows), next.clone());
            let write = self.to.run(RunOptions::default(), move |tx| {
                let (rows, row) = (rows.clone(), row.clone());
                async move {
                    let is_ours = is_ours(&tx, row.attempt).await?;
                    if is_ours {
                        put(&tx, &rows);
                        origin::mark_moving(&tx, &row);
                    }
                    Ok(is_ours)
                }
            });
            // The next part is read while this one is written.
            let read = async {
                if more {
                    self.part(&next.last).await
                } else {
                    Ok(Page::default())
                }
            };
            let (written, read) = tokio::join!(write, read);
            let written = written?;
            ensure!(written.value, "{}", self.taken());
            let stamp = written.stamp.context("a commit that wrote has a stamp")?;
            page = read?;
            *moving = next;
            progress(Progress::Copied(moving.rows));
            if !more {
                return Ok(Some(stamp));
            }
        }
    }

    /// What will arrive must come after all that has arrived.
    async fn check_versions(&self, new: Stamp) -> anyhow::Result<()> {
        let shards = self.config.cluster.shards;
        let last = self.from.read(RunOptions::default(), move |tx| async move {
            let mut last = Stamp::MIN;
            for shard in (0..shards).map(ShardId) {
                let (begin, end) = keys::arrivals_after(shard, None);
                let options = RangeOptions {
                    limit: 1,
                    reverse: true,
                    ..RangeOptions::default()
                };
                for (key, _) in tx.range(&begin, &end, options).await?.rows {
                    last = last.max(keys::stamp_of(&key).map_err(corrupt)?.stamp);
                }
            }
            Ok(last)
        });
        let last = last.await?;
        ensure!(
            new > last,
            "the versions of the new store ({new}) are not yet above those of the old one ({last}); \
             run this again later, or set them forward with `fdbcli --exec 'advanceversion N'`"
        );
        Ok(())
    }

    /// Digests of all conversations, or where the stores differ, in words.
    async fn compare(
        &self,
        progress: &mut impl FnMut(Progress),
    ) -> anyhow::Result<Result<BTreeMap<ConversationId, blake3::Hash>, String>> {
        let shards = self.config.cluster.shards;
        let mut all = BTreeSet::new();
        for shard in (0..shards).map(ShardId) {
            let old = digest::conversations(self.from, shard).await?;
            let new = digest::conversations(self.to, shard).await?;
            if old != new {
                return Ok(Err(format!("shard {shard} has other conversations")));
            }
            all.extend(old);
        }
        progress(Progress::Comparing(all.len() as u64));
        let (old, new) = (Digests::default(), Digests::default());
        let (old, new) = (&old, &new);
        let compared = futures_util::stream::iter(all).map(async |id| {
            let scope = Scope::new(id, shards);
            let (old, new) = tokio::try_join!(
                old.conversation(self.from, scope),
                new.conversation(self.to, scope)
            )?;
            Ok::<_, StoreError>((id, old == new, old))
        });
        let mut compared = compared.buffer_unordered(COMPARED_AT_ONCE);
        let (mut digests, mut count) = (BTreeMap::new(), 0);
        while let Some((id, is_equal, digest)) = compared.try_next().await? {
            if !is_equal {
                return Ok(Err(format!("conversation {id} differs")));
            }
            count += 1;
            // A conversation may be known by an op that came before its creation.
            digests.extend(digest.map(|digest| (id, digest)));
            progress(Progress::Compared(count));
        }
        Ok(Ok(digests))
    }

    fn old_origin(&self, moving: &Moving) -> Origin {
        Origin {
            region: self.config.region.id,
            incarnation: moving.incarnation,
        }
    }

    /// Closes the old store to nodes, then opens the new one to them.
    async fn end(&self, moving: &Moving) -> anyhow::Result<(Origin, Origin)> {
        let (shards, now) = (self.config.cluster.shards, origin::unix_s(unix_ms())?);
        let (old, place) = (self.old_origin(moving), origin::place(self.config));
        let attempt = moving.attempt;
        let ours = self.to.read(RunOptions::default(), move |tx| async move {
            is_ours(&tx, attempt).await
        });
        ensure!(ours.await?, "{}", self.taken());
        let marked = self.from.run(RunOptions::default(), move |tx| {
            let place = place.clone();
            async move {
                let new = origin::next_life(&tx, shards, old, now).await?;
                let moved = Moved {
                    place,
                    incarnation: new.incarnation,
                };
                origin::mark_moved(&tx, &moved);
                Ok(new)
            }
        });
        let new = marked.await?.value;
        let facts = self.facts.clone();
        let ended = self.to.run(RunOptions::default(), move |tx| {
            let facts = facts.clone();
            async move {
                let is_ours = is_ours(&tx, attempt).await?;
                if is_ours {
                    facts.write(&tx);
                    origin::renew(&tx, shards, old, new).await?;
                }
                // An attempt of this very transaction may have landed without our knowing.
                let life = tx.get(&keys::meta("incarnation"), false).await?;
                let is_done = life.as_deref() == Some(&new.incarnation.to_be_bytes()[..]);
                Ok(is_ours || is_done)
            }
        });
        ensure!(ended.await?.value, "{}", self.taken());
        Ok((old, new))
    }
}

/// Whether an attempt is the one that copies.
async fn is_ours(tx: &Transaction, attempt: u64) -> Result<bool, StoreError> {
    let moving = origin::moving(tx).await?;
    Ok(moving.is_some_and(|moving| moving.attempt == attempt))
}

/// The first key that there can be.
const FIRST: &[u8] = &[0];

fn after(last: &[u8]) -> Vec<u8> {
    if last.is_empty() {
        FIRST.to_vec()
    } else {
        key_after(last)
    }
}

/// All but what the store says of itself.
fn put(tx: &Transaction, rows: &[(Key, Value)]) {
    let (begin, end) = keys::metas();
    for (key, value) in rows {
        if !(begin[..] <= key[..] && key[..] < end[..]) {
            tx.set(key, value);
        }
    }
}
