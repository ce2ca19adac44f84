//! How long a page of a conversation's history takes.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use hyper::{Method, Uri};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use tokio::task::JoinSet;

use super::cast::{Cast, bearer};
use super::latency::Latencies;
use super::load::{Posted, drive};
use super::usage::{Clocks, Cpu};
use super::wire::{Line, Server};
use super::{Control, Extent, Load, Percentiles, Target, TextsUsed};
use crate::Error;
use crate::api::limits;
use crate::client::to_json;

/// Messages on a page.
const PAGE: u32 = 50;

/// The owner of a conversation that is filled here has no quota, but its users do: with so many
/// they are not in each other's way.
const FILLERS: NonZeroUsize = NonZeroUsize::new(200).expect("it is not zero");

/// What is paged through, and how.
#[derive(Clone, Debug)]
pub struct Paging {
    /// A conversation that is there; `None`: one is made and filled.
    pub conversation: Option<String>,
    /// How many messages it is filled with.
    pub messages: u64,
    /// Connections, each with one page under way at a time.
    pub clients: NonZeroUsize,
    /// What comes first and does not count, of each kind of page.
    pub warmup: Duration,
    /// How long it goes on after that, for each kind of page.
    pub duration: Duration,
    /// Decides on the positions.
    pub seed: u64,
    /// What the messages say.
    pub texts: super::Texts,
}

/// What [`history`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Paged {
    /// The region that was asked.
    pub region: String,
    /// The conversation, which can be paged through again.
    pub conversation: String,
    /// Messages that it has.
    pub messages: u64,
    /// Where the texts came from, if the conversation was filled here.
    pub texts: Option<TextsUsed>,
    /// Messages on a page.
    pub page: u32,
    /// Connections.
    pub clients: usize,
    /// The newest page, again and again.
    pub newest: Pages,
    /// Pages before random messages.
    pub random: Pages,
    /// The same for somebody who has read nothing, of whose unread messages those above each page
    /// are counted; only if the conversation was filled here.
    pub unread: Option<Pages>,
}

/// Pages of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Pages {
    /// How many were read.
    pub pages: u64,
    /// In a second.
    pub pages_per_second: f64,
    /// Of one page.
    pub latency: Option<Percentiles>,
    /// Processor time for each page.
    pub cpu: Cpu,
}

/// Pages through a conversation in the first region of `target`.
pub async fn history(target: &Target, paging: &Paging, control: &Control) -> Result<Paged, Error> {
    let region = target.written()?;
    let server = Server::new(&region.url)?;
    let Subject {
        conversation,
        reader,
        laggard,
        mut positions,
    } = match &paging.conversation {
        None => {
            let filled = fill(target, paging, control).await?;
            mark_read(&server, &filled.conversation, &filled.reader).await?;
            filled
        }
        Some(conversation) => {
            // Is no member of it, so that nothing is unread either.
            let reader = bearer(target, "bench")?;
            let positions = walk(&server, conversation, &reader, control).await?;
            Subject {
                conversation: conversation.clone(),
                reader,
                laggard: None,
                positions,
            }
        }
    };
    let messages = positions.len() as u64;
    if messages == 0 {
        return Err(Error::config(
            "the conversation has no message to page through",
        ));
    }
    positions.shuffle(&mut StdRng::seed_from_u64(paging.seed));
    positions.truncate(POSITIONS_MAX);
    let path = ["v1", "conversations", &conversation, "messages"];
    let limit = PAGE.to_string();
    let newest = vec![server.target_with(&path, &[("limit", &limit)])?];
    let random = positions
        .iter()
        .map(|position| server.target_with(&path, &[("before", position), ("limit", &limit)]))
        .collect::<Result<Vec<_>, _>>()?;
    let reading = Reading {
        target,
        paging,
        server,
        control,
    };
    let unread = match laggard {
        None => None,
        Some(laggard) => {
            let what = "reading random pages with much unread";
            Some(reading.pages(what, &laggard, random.clone()).await?)
        }
    };
    Ok(Paged {
        region: region.name.clone(),
        conversation,
        messages,
        texts: paging
            .conversation
            .is_none()
            .then(|| TextsUsed::from(&paging.texts)),
        page: PAGE,
        clients: paging.clients.get(),
        newest: reading
            .pages("reading newest pages", &reader, newest)
            .await?,
        random: reading
            .pages("reading random pages", &reader, random)
            .await?,
        unread,
    })
}

/// Different pages that are read at random; the store's caches do not hold all of them.
const POSITIONS_MAX: usize = 100_000;

/// A conversation to page through.
struct Subject {
    conversation: String,
    /// Who reads it, and has read all.
    reader: HeaderValue,
    /// Who has read nothing.
    laggard: Option<HeaderValue>,
    /// Of all its messages.
    positions: Vec<String>,
}

async fn fill(target: &Target, paging: &Paging, control: &Control) -> Result<Subject, Error> {
    let region = target.written()?;
    let load = Load {
        clients: NonZeroUsize::new(64).unwrap_or(NonZeroUsize::MIN),
        rate: None,
        users: FILLERS,
        conversations: NonZeroUsize::MIN,
        warmup: Duration::ZERO,
        extent: Extent::Messages(paging.messages),
        texts: paging.texts.clone(),
    };
    control.stage("making users and a conversation", None);
    let cast = Rc::new(Cast::make(target, region, load.users.get(), 1).await?);
    let positions = Rc::new(RefCell::new(Vec::new()));
    let found = Rc::clone(&positions);
    drive(target, region, &cast, &load, control, move |_, reply| {
        let posted: Posted = reply.json()?;
        found.borrow_mut().push(posted.position);
        Ok(())
    })
    .await?;
    Ok(Subject {
        conversation: cast.conversations[0].clone(),
        reader: cast.users[0].bearer.clone(),
        laggard: Some(cast.users[1].bearer.clone()),
        positions: positions.take(),
    })
}

/// Marks all messages as read, as an app does that shows the newest page.
async fn mark_read(server: &Server, id: &str, reader: &HeaderValue) -> Result<(), Error> {
    #[derive(Deserialize, Serialize)]
    struct Mark {
        cursor: String,
    }
    let mut line = Line::open(server.clone()).await?;
    let newest = server.target(&["v1", "conversations", id, "messages"])?;
    let reader = Some(reader.clone());
    let request = line.request(Method::GET, newest, reader.clone(), Default::default());
    let Mark { cursor } = line.call(request).await?.json()?;
    let body = to_json(&Mark { cursor });
    let read = server.target(&["v1", "conversations", id, "read"])?;
    let request = line.request(Method::PUT, read, reader, body.into());
    let Mark { .. } = line.call(request).await?.json()?;
    Ok(())
}

/// The positions of all messages of a conversation.
async fn walk(
    server: &Server,
    conversation: &str,
    reader: &HeaderValue,
    control: &Control,
) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Page {
        messages: Vec<Message>,
        prev: Option<String>,
    }
    #[derive(Deserialize)]
    struct Message {
        position: String,
    }
    control.stage("looking for messages", None);
    let mut line = Line::open(server.clone()).await?;
    let path = ["v1", "conversations", conversation, "messages"];
    let limit = limits::PAGE_ITEMS_MAX.to_string();
    let mut before: Option<String> = None;
    let mut positions = Vec::new();
    while !*control.stop.borrow() {
        let mut query = vec![("limit", limit.as_str())];
        query.extend(before.as_deref().map(|before| ("before", before)));
        let target = server.target_with(&path, &query)?;
        let request = line.request(
            Method::GET,
            target,
            Some(reader.clone()),
            Default::default(),
        );
        let page: Page = line.call(request).await?.json()?;
        positions.extend(page.messages.into_iter().map(|message| message.position));
        control.step();
        match page.prev {
            Some(prev) => before = Some(prev),
            None => break,
        }
    }
    Ok(positions)
}

/// What is the same for all pages.
struct Reading<'a> {
    target: &'a Target,
    paging: &'a Paging,
    server: Server,
    control: &'a Control,
}

impl Reading<'_> {
    /// Reads pages in a closed loop, taking turns.
    async fn pages(
        &self,
        what: &str,
        reader: &HeaderValue,
        pages: Vec<Uri>,
    ) -> Result<Pages, Error> {
        let mut lines = Vec::new();
        for _ in 0..self.paging.clients.get() {
            lines.push(Line::open(self.server.clone()).await?);
        }
        self.control.stage(what, None);
        let counts_from = Instant::now() + self.paging.warmup;
        let over = counts_from + self.paging.duration;
        let pages = Rc::new(pages);
        let next = Rc::new(Cell::new(0_usize));
        let latencies = Rc::new(RefCell::new(Latencies::new()));
        let mut clients = JoinSet::new();
        for mut line in lines {
            let (pages, next) = (Rc::clone(&pages), Rc::clone(&next));
            let latencies = Rc::clone(&latencies);
            let (reader, control) = (reader.clone(), self.control.clone());
            clients.spawn_local(async move {
                loop {
                    let sent = Instant::now();
                    if sent >= over || *control.stop.borrow() {
                        return Ok::<_, Error>(());
                    }
                    let page = pages[next.get() % pages.len()].clone();
                    next.set(next.get() + 1);
                    let request =
                        line.request(Method::GET, page, Some(reader.clone()), Default::default());
                    let reply = line.call(request).await?;
                    let took = sent.elapsed();
                    let page: ShownPage = reply.json()?;
                    if page.messages.len() != PAGE as usize && page.prev.is_some() {
                        let found = page.messages.len();
                        return Err(Error::config(format!(
                            "a page had {found} messages where there are {PAGE} and more"
                        )));
                    }
                    if sent >= counts_from {
                        latencies.borrow_mut().record(took);
                        control.step();
                    }
                }
            });
        }
        let pids: Vec<_> = self.target.regions.iter().map(|r| r.pids.clone()).collect();
        tokio::time::sleep(self.paging.warmup).await;
        let before = Clocks::read(&pids);
        while let Some(joined) = clients.join_next().await {
            joined.map_err(|panic| Error::config(format!("a client broke off: {panic}")))??;
        }
        let seconds = counts_from.elapsed().as_secs_f64();
        let latency = latencies.borrow().percentiles();
        let count = latency.map_or(0, |latency| latency.count);
        Ok(Pages {
            pages: count,
            pages_per_second: (count as f64 / seconds.max(0.001) * 10.0).round() / 10.0,
            latency,
            cpu: Clocks::read(&pids).since(&before, &self.target.regions, count),
        })
    }
}

/// What a page is looked at for.
#[derive(Deserialize)]
struct ShownPage {
    messages: Vec<IgnoredAny>,
    prev: Option<IgnoredAny>,
}
