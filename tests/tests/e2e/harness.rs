//! A cluster of real processes, whose regions can be killed and whose links can be cut.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};
use whimbrel_chaos::link::{Change, Dial, Links};
use whimbrel_client::api::{
    ConversationKind, CreateConversation, Digests, Event, Message, PostMessage, PostedMessage,
};
use whimbrel_client::token::{Claims, SCOPE_SERVICE, SigningKey};
use whimbrel_client::{Client, Error, EventStream, RetryPolicy};

use crate::foundationdb;
use crate::node::{Config, Listed, Node, Ports};
use crate::programs::run_ok;
use crate::wait::{until, within};

/// Clusters at once: more would only slow each other down on a small machine.
static CLUSTERS: Semaphore = Semaphore::const_new(2);

/// Of all its clusters.
pub(crate) const SHARDS: u16 = 4;
/// The regions of most tests.
pub(crate) const REGIONS: [&str; 3] = ["eu", "us", "ap"];

/// Waits until one may have a cluster; dropped, another may.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    CLUSTERS.acquire().await.expect("it is never closed")
}

pub(crate) struct Cluster {
    nodes: BTreeMap<String, Node>,
    /// Relays between all regions: faults are set on them.
    pub(crate) links: Links,
    pub(crate) key: SigningKey,
    /// Kept where the test fails.
    folder: Option<TempDir>,
    _permit: SemaphorePermit<'static>,
}

impl Cluster {
    /// Of the three [`REGIONS`], ready.
    pub(crate) async fn start() -> Self {
        Self::of(&REGIONS).await
    }

    /// Of these regions, ready.
    pub(crate) async fn of(regions: &[&str]) -> Self {
        Self::with_stores(regions, foundationdb::section).await
    }

    /// Of these regions, ready; `store` gives the section `[store]` of a cluster's region.
    pub(crate) async fn with_stores(
        regions: &[&str],
        store: impl Fn(&str, &str) -> String,
    ) -> Self {
        let permit = turn().await;
        let folder = TempDir::with_prefix("whimbrel-e2e-").expect("a temporary folder");
        let pki = folder.path().join("pki");
        make_pki(&pki, regions);
        let ports: Vec<Ports> = regions.iter().map(|_| Ports::free()).collect();
        let cluster = cluster_id();
        let links = relays(regions, &ports).await;
        let mut nodes = BTreeMap::new();
        for (&region, &own) in regions.iter().zip(&ports) {
            let mut listed = Vec::new();
            for (number, (&other, ports)) in (1..).zip(regions.iter().zip(&ports)) {
                listed.push(Listed {
                    name: other.to_owned(),
                    number,
                    http: ports.http,
                    quic: links
                        .address(region, other)
                        .unwrap_or_else(|| loopback(ports.quic)),
                });
            }
            let config = Config {
                region: region.to_owned(),
                cluster: cluster.clone(),
                shards: SHARDS,
                regions: listed,
                ports: own,
                pki: pki.clone(),
                store: store(&cluster, region),
            };
            let node = Node::new(&folder.path().join(region), config);
            nodes.insert(region.to_owned(), node);
        }
        let key = SigningKey::from_pem_file(&pki.join("token.key.pem")).expect("a token key");
        let mut this = Self {
            nodes,
            links,
            key,
            folder: Some(folder),
            _permit: permit,
        };
        this.nodes.values_mut().for_each(Node::start);
        for node in this.nodes.values_mut() {
            node.ready().await;
        }
        this
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("only dropping takes it").path()
    }

    pub(crate) fn node(&self, region: &str) -> &Node {
        &self.nodes[region]
    }

    pub(crate) fn node_mut(&mut self, region: &str) -> &mut Node {
        self.nodes.get_mut(region).expect("a region of the cluster")
    }

    /// SIGKILLs a region.
    pub(crate) async fn kill(&mut self, region: &str) {
        self.node_mut(region).kill().await;
    }

    /// Stops a region as an operator would.
    pub(crate) async fn stop(&mut self, region: &str) {
        self.node_mut(region).stop().await;
    }

    /// Starts a region again and waits until it is ready.
    pub(crate) async fn restart(&mut self, region: &str) {
        let node = self.node_mut(region);
        node.start();
        node.ready().await;
    }

    /// Cuts the links between two regions: nothing that is sent after this gets through.
    pub(crate) fn cut(&self, one: &str, other: &str) {
        self.change(one, other, Change::Cut);
        self.change(other, one, Change::Cut);
    }

    /// Changes the faults of what one region sends to another after this.
    pub(crate) fn change(&self, from: &str, to: &str, change: Change) {
        let changed = self.links.change(from, to, change);
        changed.expect("regions of the cluster, and faults that can be");
    }

    /// Cuts all links: each region is alone.
    pub(crate) fn cut_all(&self) {
        self.links.change_all(Change::Cut).expect("it can be");
    }

    /// Takes all faults of all links away.
    pub(crate) fn heal_all(&self) {
        self.links.change_all(Change::Heal).expect("it can be");
    }

    pub(crate) fn token(&self, user: &str, scope: Option<&str>) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let hour = Duration::from_secs(60 * 60);
        let claims = Claims {
            sub: user.to_owned(),
            exp: (now.expect("it is after 1970") + hour).as_secs(),
            scope: scope.map(str::to_owned),
        };
        self.key.sign(&claims).expect("the key signs")
    }

    /// A user of all regions, as an app would use them: in `home` while it is up.
    pub(crate) fn app(&self, home: &str, user: &str) -> Client {
        let regions = self.nodes.values();
        let builder = regions.fold(Client::builder(), |builder, node| {
            builder.region(&node.config.region, node.url())
        });
        let builder = builder.prefer(home).token(self.token(user, None));
        builder.build().expect("a client can be made")
    }

    /// A user in a region. Calls are made once: what fails is for the test to see.
    pub(crate) fn client(&self, region: &str, user: &str) -> Client {
        self.client_with(region, &self.token(user, None))
    }

    /// A service in a region.
    pub(crate) fn service(&self, region: &str, user: &str) -> Client {
        self.client_with(region, &self.token(user, Some(SCOPE_SERVICE)))
    }

    fn client_with(&self, region: &str, token: &str) -> Client {
        let builder = Client::builder()
            .region(region, self.node(region).url())
            .only(region)
            .session(false)
            .token(token)
            .timeout(Duration::from_secs(20))
            .retry(RetryPolicy::NEVER);
        builder.build().expect("a client can be made")
    }

    /// One user in all [`REGIONS`].
    pub(crate) fn everywhere(&self, user: &str) -> [Client; 3] {
        REGIONS.map(|region| self.client(region, user))
    }

    /// What a region's metric says, summed over its labels.
    pub(crate) async fn metric(&self, region: &str, name: &str) -> Result<f64, String> {
        let url = format!("{}/metrics", self.node(region).admin_url());
        let answer = http().get(url).send().await;
        let text = answer.map_err(|e| e.to_string())?.text().await;
        let text = text.map_err(|e| e.to_string())?;
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let values: Vec<f64> = lines
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        if values.is_empty() {
            return Err(format!("no {name} in {region}"));
        }
        Ok(values.iter().sum())
    }

    /// Ends a region, and leaves it nothing of its store; `more` of its config stays.
    pub(crate) async fn lose_disk(&mut self, region: &str, test: &str, more: &str) {
        // A life of a store is told from others by the second in which it began.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.kill(region).await;
        if foundationdb::is_asked_for_in(region) {
            let section = foundationdb::own_section(test, region) + more;
            self.node_mut(region).set_store(section);
        } else {
            std::fs::remove_dir_all(self.folder().join(region).join("data")).unwrap();
        }
    }

    /// What operators see of a region's replication.
    pub(crate) async fn replication(&self, region: &str) -> Result<serde_json::Value, String> {
        let url = format!("{}/admin/v1/replication", self.node(region).admin_url());
        let answer = http().get(url).send().await;
        let shown = answer.map_err(|e| e.to_string())?.json().await;
        shown.map_err(|e| e.to_string())
    }

    /// Digests of a region.
    pub(crate) async fn digests(&self, region: &str) -> Result<Digests, String> {
        let url = format!("{}/admin/v1/digests", self.node(region).admin_url());
        let wrong = |error: reqwest::Error| format!("digests of {region}: {error}");
        let answer = http().get(url).send().await.map_err(wrong)?;
        answer
            .error_for_status()
            .map_err(wrong)?
            .json()
            .await
            .map_err(wrong)
    }

    /// Waits until all running regions show the same (G4), and gives what.
    pub(crate) async fn converged(&self) -> Digests {
        let running: Vec<&str> = self
            .nodes
            .values()
            .filter(|node| node.is_running())
            .map(|node| node.config.region.as_str())
            .collect();
        until("equal digests in all regions", async || {
            let first = self.digests(running[0]).await?;
            for other in &running[1..] {
                let digests = self.digests(other).await?;
                if digests.conversations != first.conversations || digests.digest != first.digest {
                    return Err(format!(
                        "{}: {:#?}\n{other}: {:#?}",
                        running[0], first.conversations, digests.conversations
                    ));
                }
            }
            Ok(first)
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!(
                "the cluster's files are kept in {}",
                folder.keep().display()
            );
        }
    }
}

/// A relay from each region to each other; their chances come from a seed that is printed.
async fn relays(regions: &[&str], ports: &[Ports]) -> Links {
    let mut dials = Vec::new();
    for &from in regions {
        for (&to, ports) in regions.iter().zip(ports).filter(|(to, _)| **to != from) {
            dials.push(Dial {
                from: from.to_owned(),
                to: to.to_owned(),
                listen: loopback(0),
                target: loopback(ports.quic),
            });
        }
    }
    let seed = chance("links").random();
    Links::start(seed, dials).await.expect("free ports")
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A cluster's authority, a certificate for each region, and the key that signs tokens.
pub(crate) fn make_pki(folder: &Path, regions: &[&str]) {
    let folder = folder
        .to_str()
        .expect("a temporary folder has a plain name");
    run_ok("whimbrel-node", ["ca", "init", "--out", folder]);
    run_ok("whimbrel-node", ["keys", "--out", folder]);
    for region in regions {
        let args = [
            "ca", "issue", "--ca", folder, "--region", region, "--out", folder,
        ];
        run_ok("whimbrel-node", args);
    }
}

/// 16 bytes in base32hex: the last of 26 characters carries three bits.
pub(crate) fn cluster_id() -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut random = rand::rng();
    let mut id: String = (0..25)
        .map(|_| char::from(DIGITS[random.random_range(0..DIGITS.len())]))
        .collect();
    id.push('0');
    id
}

/// For calls that the SDK does not make.
pub(crate) fn http() -> &'static reqwest::Client {
    static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
        // Refused when an SDK client was first, which installs the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder()
            .tls_certs_only([])
            .timeout(Duration::from_secs(20))
            // Tests have runtimes of their own; a connection must not outlive that of its test.
            .pool_max_idle_per_host(0)
            .build()
            .expect("an HTTP client")
    });
    &HTTP
}

/// Chance that can be replayed: prints its seed, or takes that of `WHIMBREL_SEED`.
pub(crate) fn chance(test: &str) -> StdRng {
    let seed = match std::env::var("WHIMBREL_SEED") {
        Ok(seed) => seed.parse().expect("WHIMBREL_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("{test}: WHIMBREL_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A message's body.
pub(crate) fn text(text: impl Into<String>) -> PostMessage {
    PostMessage {
        text: text.into(),
        ..PostMessage::default()
    }
}

/// Makes a group and gives its id.
pub(crate) async fn group(owner: &Client, members: &[&str]) -> String {
    let body = CreateConversation {
        kind: ConversationKind::Group,
        title: Some("Waders".to_owned()),
        topic: None,
        members: members.iter().map(|&user| user.to_owned()).collect(),
    };
    owner.create(&body).await.expect("a group").value.id
}

/// Makes a channel and gives its id.
pub(crate) async fn channel(owner: &Client) -> String {
    let body = CreateConversation {
        kind: ConversationKind::Channel,
        title: Some("Birds".to_owned()),
        topic: None,
        members: Vec::new(),
    };
    owner.create(&body).await.expect("a channel").value.id
}

/// Posts and gives the message.
pub(crate) async fn say(client: &Client, conversation: &str, what: &str) -> PostedMessage {
    let posted = client.post(conversation, &text(what)).await;
    posted.expect("a post").value
}

/// All messages of a conversation, oldest first, read in pages from the newest to the oldest.
pub(crate) async fn walk_back(
    client: &Client,
    conversation: &str,
    limit: u32,
) -> Result<Vec<Message>, Error> {
    let mut pages = Vec::new();
    let mut page = client.messages(conversation).limit(limit).await?.value;
    assert_eq!(page.next, None, "the first page is the newest");
    loop {
        let prev = page.prev.take();
        pages.push(page.messages);
        let Some(prev) = prev else {
            break;
        };
        let older = client.messages(conversation).older_than(&prev).limit(limit);
        page = older.await?.value;
        assert!(page.next.is_some(), "there is a newer page");
    }
    Ok(pages.into_iter().rev().flatten().collect())
}

/// All messages of a conversation, read in pages from the oldest to the newest.
pub(crate) async fn walk_forward(
    client: &Client,
    conversation: &str,
    limit: u32,
) -> Result<Vec<Message>, Error> {
    let Some(first) = walk_back(client, conversation, 200)
        .await?
        .into_iter()
        .next()
    else {
        return Ok(Vec::new());
    };
    let mut next = Some(first.position.clone());
    let mut all = vec![first];
    while let Some(position) = next {
        let newer = client.messages(conversation).newer_than(&position);
        let page = newer.limit(limit).await?.value;
        next = page.next;
        all.extend(page.messages);
    }
    Ok(all)
}

/// The texts of messages; a redacted one has none.
pub(crate) fn texts(messages: &[Message]) -> Vec<&str> {
    messages
        .iter()
        .filter_map(|message| message.text.as_deref())
        .collect()
}

/// The next event of a stream.
pub(crate) async fn next(stream: &mut EventStream) -> Event {
    within("an event", stream.next()).await.expect("an event")
}

/// Events of a stream up to the one that `last` wants.
pub(crate) async fn events_until(
    stream: &mut EventStream,
    mut last: impl FnMut(&Event) -> bool,
) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = next(stream).await;
        let done = last(&event);
        events.push(event);
        if done {
            return events;
        }
    }
}

/// The unread messages of a conversation, as its user's list tells.
pub(crate) async fn unread(client: &Client, conversation: &str) -> Result<u64, String> {
    let list = client.conversations().limit(200).await;
    let list = list.map_err(|error| error.to_string())?;
    list.conversations
        .iter()
        .find(|listed| listed.conversation.id == conversation)
        .map(|listed| listed.unread)
        .ok_or_else(|| "it is not in the list".to_owned())
}
