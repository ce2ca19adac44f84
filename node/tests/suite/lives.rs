use std::path::Path;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use whimbrel_node::apply::held;
use whimbrel_node::ca;
use whimbrel_node::clock::unix_ms;
use whimbrel_node::command::Action;
use whimbrel_node::config::Config;
use whimbrel_node::migrate::{self, Progress, Summary};
use whimbrel_node::store::embedded::Options;
use whimbrel_node::store::{Embedded, RunOptions, Store};
use whimbrel_node::{origin, restored, whole};
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{ConversationId, Origin, ShardId};
use whimbrel_replication::op::ConversationKind;

use crate::batching::{Region, SHARDS, post};
use crate::config::{GOOD, folder, load};

const POSTS: usize = 400;

fn open(dir: &Path) -> Store {
    Store::Embedded(Embedded::open(dir, Options::default()).unwrap())
}

/// A region's config, and its store with some conversations.
struct Old {
    dir: TempDir,
    config: Config,
    store: Store,
    conversation: ConversationId,
}

impl Old {
    async fn new() -> Self {
        Self::of("eu").await
    }

    async fn of(region: &str) -> Self {
        let dir = folder();
        let shards = format!("shards = {SHARDS}\n\n[[cluster.regions]]");
        let text = GOOD.replacen("[[cluster.regions]]", &shards, 1);
        let mut text = text.replacen("\"eu\"", &format!("{region:?}"), 1);
        if region != "eu" {
            ca::issue(dir.path(), region, dir.path(), 10).unwrap();
            for file in ["pem", "key.pem"] {
                text = text.replace(&format!("\"eu.{file}\""), &format!("\"{region}.{file}\""));
            }
        }
        let config = load(dir.path(), &text).unwrap();
        let store = open(&dir.path().join("old"));
        let this = Self {
            dir,
            config,
            store,
            conversation: ConversationId::created("ada", "room"),
        };
        let create = Action::Create {
            kind: ConversationKind::Group,
            title: None,
            topic: None,
            members: vec!["ben".to_owned()],
        };
        let region = this.region(&this.store).await;
        region.write("ada", "room", create, this.conversation).await;
        this.post(&region, "old", POSTS).await;
        region.stop.cancel();
        this
    }

    async fn region(&self, store: &Store) -> Region {
        let (identity, _) = origin::take_up(store, &self.config, unix_ms())
            .await
            .unwrap();
        Region::of(store.clone(), identity).await
    }

    async fn post(&self, region: &Region, what: &str, count: usize) {
        let posts = (0..count).map(async |n| {
            let key = format!("{what} {n}");
            let action = post(&self.conversation, "ada", &key, &key).1;
            region.write("ada", &key, action, self.conversation).await;
        });
        futures_util::future::join_all(posts).await;
    }

    /// How far a store holds the conversation's shard.
    async fn held(&self, store: &Store, own: Origin) -> ShardCursor {
        let shard = self.conversation.shard(SHARDS);
        let held = store.read(RunOptions::default(), move |tx| async move {
            held(&tx, shard, own).await
        });
        held.await.unwrap()
    }

    /// An empty store whose versions are above those of the old one.
    async fn target(&self) -> Store {
        let store = open(&self.dir.path().join("new"));
        raise(&store).await;
        store
    }

    async fn migrate(&self, to: &Store) -> anyhow::Result<(Option<Summary>, Vec<Progress>)> {
        self.migrate_until(to, |_| false).await
    }

    /// Interrupted when `stop` says so.
    async fn migrate_until(
        &self,
        to: &Store,
        stop: impl Fn(Progress) -> bool,
    ) -> anyhow::Result<(Option<Summary>, Vec<Progress>)> {
        let (shutdown, mut steps) = (CancellationToken::new(), Vec::new());
        let moved = migrate::run(&self.store, to, &self.config, &shutdown, |step| {
            steps.push(step);
            if stop(step) {
                shutdown.cancel();
            }
        });
        let moved = moved.await?;
        Ok((moved, steps))
    }
}

/// Commits until no stamp of an old store can be above those that come.
async fn raise(store: &Store) {
    for _ in 0..POSTS * 2 {
        let set = store.run(RunOptions::default(), |tx| async move {
            tx.set(b"raise", b"");
            Ok(())
        });
        set.await.unwrap();
    }
    let clear = store.run(RunOptions::default(), |tx| async move {
        tx.clear(b"raise");
        Ok(())
    });
    clear.await.unwrap();
}

fn is_copy(step: Progress) -> bool {
    matches!(step, Progress::Copied(_))
}

fn copied_before(steps: &[Progress]) -> u64 {
    let begun = steps.iter().find_map(|step| match step {
        Progress::Begun { done, .. } => Some(*done),
        _ => None,
    });
    begun.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_g4_a_store_moves_whole_and_goes_on_where_it_was_interrupted() {
    let old = Old::new().await;
    assert!(!whole::load(&old.store).await.unwrap());
    whole::save(&old.store).await.unwrap();
    let to = old.target().await;
    let (moved, steps) = old.migrate_until(&to, is_copy).await.unwrap();
    assert_eq!(moved, None, "interrupted");
    assert_eq!(copied_before(&steps), 0);
    let half = origin::take_up(&to, &old.config, unix_ms())
        .await
        .unwrap_err();
    assert!(half.to_string().contains("still being filled"), "{half}");

    let (moved, steps) = old.migrate(&to).await.unwrap();
    let moved = moved.unwrap();
    let before = copied_before(&steps);
    assert!(
        0 < before && before < moved.rows,
        "{before} of {}",
        moved.rows
    );
    assert_eq!(moved.conversations, 1);
    assert!(moved.after.incarnation > moved.before.incarnation);
    let refused = origin::take_up(&old.store, &old.config, unix_ms()).await;
    assert!(refused.unwrap_err().to_string().contains("was moved to"));
    let again = old.migrate(&to).await.unwrap_err().to_string();
    assert!(again.contains("already"), "{again}");
    // Who goes back at once is another one again.
    let (_, back) = restored::run(&old.store, &old.config).await.unwrap();
    assert!(back.incarnation > moved.after.incarnation);

    // It goes on as another origin, which holds all that the old one wrote, under other node numbers.
    let region = old.region(&to).await;
    assert_eq!(region.identity.origin, moved.after);
    assert!(
        region.identity.node.0 > 1 << 16,
        "{:?}",
        region.identity.node
    );
    assert_eq!(region.timeline(old.conversation).await.len(), POSTS);
    old.post(&region, "old", POSTS).await;
    assert_eq!(
        region.timeline(old.conversation).await.len(),
        POSTS,
        "replays"
    );
    old.post(&region, "new", 10).await;
    assert_eq!(region.timeline(old.conversation).await.len(), POSTS + 10);
    let there = old.held(&to, moved.after).await;
    let here = old.held(&old.store, back).await;
    assert_eq!(there.get(&moved.before), here.get(&moved.before));
    assert!(whole::load(&to).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_a_move_begins_anew_when_the_old_store_was_used_since() {
    let old = Old::new().await;
    let to = old.target().await;
    old.migrate_until(&to, is_copy).await.unwrap();
    let region = old.region(&old.store).await;
    old.post(&region, "later", 5).await;
    region.stop.cancel();
    raise(&to).await;
    let (moved, steps) = old.migrate(&to).await.unwrap();
    assert_eq!(steps[0], Progress::Anew);
    assert_eq!(copied_before(&steps), 0);
    assert!(moved.is_some());
    let region = old.region(&to).await;
    assert_eq!(region.timeline(old.conversation).await.len(), POSTS + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g4_a_copy_that_differs_is_found_and_made_again() {
    let old = Old::new().await;
    let to = old.target().await;
    old.migrate_until(&to, is_copy).await.unwrap();
    let scope = whimbrel_node::store::keys::Scope::new(old.conversation, SHARDS);
    let damage = to.run(RunOptions::default(), move |tx| async move {
        tx.clear(&scope.member("ben"));
        Ok(())
    });
    damage.await.unwrap();
    let error = old.migrate(&to).await.unwrap_err().to_string();
    assert!(error.contains("differs in"), "{error}");
    let (moved, steps) = old.migrate(&to).await.unwrap();
    assert_eq!(copied_before(&steps), 0);
    assert!(moved.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_holds_anything_else_is_refused_and_so_are_versions_that_are_too_low() {
    let old = Old::new().await;
    let taken = open(&old.dir.path().join("taken"));
    let set = taken.run(RunOptions::default(), |tx| async move {
        tx.set(b"somebody's", b"");
        Ok(())
    });
    set.await.unwrap();
    let error = old.migrate(&taken).await.unwrap_err().to_string();
    assert!(error.contains("give it a prefix of its own"), "{error}");

    let young = open(&old.dir.path().join("young"));
    let error = old.migrate(&young).await.unwrap_err().to_string();
    assert!(error.contains("versions of the new store"), "{error}");
    raise(&young).await;
    let (moved, steps) = old.migrate(&young).await.unwrap();
    assert_eq!(copied_before(&steps), moved.unwrap().rows, "nothing twice");
}

/// Both regions were made within one second, and started as often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_a_region_does_not_go_on_with_the_half_copy_of_another() {
    let (eu, us) = loop {
        let (eu, us) = (Old::of("eu").await, Old::of("us-east").await);
        let life = async |old: &Old| {
            let taken = origin::take_up(&old.store, &old.config, unix_ms()).await;
            taken.unwrap().0.origin.incarnation
        };
        if life(&eu).await == life(&us).await {
            break (eu, us);
        }
    };
    let to = eu.target().await;
    eu.migrate_until(&to, is_copy).await.unwrap();
    let error = us.migrate(&to).await.unwrap_err().to_string();
    assert!(
        error.contains("half a copy of another region's store"),
        "{error}"
    );
    assert!(eu.migrate(&to).await.unwrap().0.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_of_two_moves_at_once_one_ends() {
    let old = Old::new().await;
    let to = old.target().await;
    let (one, other) = tokio::join!(old.migrate(&to), old.migrate(&to));
    let ends = [one, other].map(|end| end.map(|(moved, _)| moved.is_some()));
    let done = ends.iter().filter(|end| matches!(end, Ok(true))).count();
    assert_eq!(done, 1, "{ends:?}");
    for error in ends.into_iter().filter_map(Result::err) {
        let error = error.to_string();
        let told = ["taken over by another", "already"];
        assert!(told.iter().any(|words| error.contains(words)), "{error}");
    }
    let region = old.region(&to).await;
    assert_eq!(region.timeline(old.conversation).await.len(), POSTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_what_was_moved_is_not_moved_elsewhere_too() {
    let old = Old::new().await;
    let to = old.target().await;
    assert!(old.migrate(&to).await.unwrap().0.is_some());
    let second = open(&old.dir.path().join("second"));
    raise(&second).await;
    let error = old.migrate(&second).await.unwrap_err().to_string();
    assert!(error.contains("was moved to"), "{error}");
    // Unless it has taken a new life itself.
    restored::run(&old.store, &old.config).await.unwrap();
    assert!(old.migrate(&second).await.unwrap().0.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g18_a_new_life_keeps_what_the_old_one_wrote_apart() {
    let old = Old::new().await;
    let (before, after) = restored::run(&old.store, &old.config).await.unwrap();
    assert!(after.incarnation > before.incarnation);
    let region = old.region(&old.store).await;
    assert_eq!(region.identity.origin, after);
    for shard in (0..SHARDS).map(ShardId) {
        assert_eq!(region.log(shard).await, [], "the own log is empty");
    }
    assert_eq!(region.timeline(old.conversation).await.len(), POSTS);
    old.post(&region, "new", 1).await;
    let held = old.held(&old.store, after).await;
    assert!(held.get(&before).is_some() && held.get(&after).is_some());
    // Again and again, at once: each life is another one.
    let (second, third) = restored::run(&old.store, &old.config).await.unwrap();
    assert_eq!(second, after);
    assert!(third.incarnation > second.incarnation);

    let empty = open(&old.dir.path().join("empty"));
    let error = restored::run(&empty, &old.config).await.unwrap_err();
    assert!(error.to_string().contains("is empty"), "{error}");
}
