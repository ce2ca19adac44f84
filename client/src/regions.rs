//! Where the regions are, and how they look from here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use reqwest::Url;

use crate::breaker::{Breaker, Fault};
use crate::ranking::{self, Standing};
use crate::{Error, api};

/// Where a region answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, where it was given.
    pub region: Option<String>,
    /// Without `/v1`.
    pub url: String,
}

impl Endpoint {
    /// A region whose name is known.
    pub fn named(region: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            region: Some(region.into()),
            url: url.into(),
        }
    }

    /// Reads a list as in `WHIMBREL_URLS`: comma-separated, each `name=url` or only `url`.
    ///
    /// ```
    /// use whimbrel_client::Endpoint;
    ///
    /// let list = Endpoint::parse_list("eu=https://eu.example.org, https://us.example.org")?;
    /// assert_eq!(list[0], Endpoint::named("eu", "https://eu.example.org"));
    /// assert_eq!(list[1].region, None);
    /// assert!(Endpoint::parse_list("eu.example.org").is_err());
    /// # Ok::<(), whimbrel_client::Error>(())
    /// ```
    pub fn parse_list(list: &str) -> Result<Vec<Self>, Error> {
        let mut endpoints = Vec::new();
        for item in list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            // A `=` may also stand in a URL's query, but not before its `://`.
            let (region, url) = match item.split_once('=') {
                Some((name, url)) if !name.contains("://") => (Some(name.trim()), url.trim()),
                _ => (None, item),
            };
            parse_url(url)?;
            endpoints.push(Self {
                region: region.map(str::to_owned),
                url: url.to_owned(),
            });
        }
        Ok(endpoints)
    }
}

/// Addresses that a client knows at most, those of discovered regions included.
const TARGETS_MAX: usize = 64;

/// A region that lacked something is asked after the others for so long.
const BEHIND_FOR: Duration = Duration::from_secs(5);

/// The regions of a client.
#[derive(Debug)]
pub(crate) struct Regions {
    targets: RwLock<Vec<Arc<Target>>>,
    choice: Mutex<Choice>,
}

#[derive(Debug)]
enum Choice {
    /// This one, while it is up.
    Preferred(usize),
    /// The nearest, which is this one for now.
    Nearest(usize),
}

/// An address of a region. Those that were configured stay where they are in the list.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) url: Url,
    /// Given by the user; never removed.
    configured: bool,
    health: Mutex<Health>,
    /// Held while it is asked whether it is there.
    pub(crate) probing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Health {
    name: Option<String>,
    breaker: Breaker,
    latency: Option<Duration>,
    /// When it last answered anything.
    heard: Option<Instant>,
    failed: Option<Instant>,
    /// When it last failed to answer at all.
    gone: Option<Instant>,
    behind: Option<Instant>,
}

impl Target {
    fn new(name: Option<String>, url: Url, configured: bool) -> Self {
        Self {
            url,
            configured,
            health: Mutex::new(Health {
                name,
                ..Health::default()
            }),
            probing: tokio::sync::Mutex::default(),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region's name, once it is known.
    pub(crate) fn name(&self) -> Option<String> {
        self.health().name.clone()
    }

    /// Where calls are sent: `path` after the base.
    pub(crate) fn url_of<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Result<Url, Error> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::config("the URL of the region cannot have a path"))?
            .pop_if_empty()
            .push("v1")
            .extend(path);
        Ok(url)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.health().breaker.is_closed()
    }

    /// It answered something, whatever it was.
    pub(crate) fn hear(&self, name: Option<&str>) {
        let mut health = self.health();
        health.heard = Some(Instant::now());
        if let (None, Some(name)) = (&health.name, name) {
            health.name = Some(name.to_owned());
        }
    }

    /// Whether it answered anything since `then`, or was found gone: the later of both counts.
    pub(crate) fn heard_since(&self, then: Instant) -> Option<bool> {
        let health = self.health();
        let heard = health.heard.filter(|at| *at >= then);
        let gone = health.gone.filter(|at| *at >= then);
        (heard.is_some() || gone.is_some()).then_some(heard >= gone)
    }

    /// It did what was asked, or refused it for a reason of ours.
    pub(crate) fn succeed(&self) {
        self.health().breaker.succeed();
    }

    pub(crate) fn fail(&self, fault: Fault) {
        let mut health = self.health();
        let now = Instant::now();
        health.failed = Some(now);
        if fault == Fault::Gone {
            health.gone = Some(now);
        }
        health.breaker.fail(fault, now, rand::random());
    }

    /// It lacks something that was seen elsewhere.
    pub(crate) fn fall_behind(&self) {
        self.health().behind = Some(Instant::now());
    }

    pub(crate) fn measure(&self, latency: Duration) {
        let mut health = self.health();
        health.latency = Some(ranking::average(health.latency, latency));
    }

    /// Takes the place of the one probe, where one is due.
    pub(crate) fn start_probe(&self, now: Instant) -> bool {
        self.health().breaker.probe(now)
    }

    fn standing(&self) -> Standing {
        let health = self.health();
        Standing {
            is_closed: health.breaker.is_closed(),
            is_behind: health.behind.is_some_and(|at| at.elapsed() < BEHIND_FOR),
            latency: health.latency,
            failed: health.failed,
        }
    }
}

/// Which region a client asks first.
#[derive(Clone, Debug, Default)]
pub(crate) enum Wish {
    /// Whichever is nearest; until that is measured, the first.
    #[default]
    Nearest,
    /// This one, while it is up.
    Prefer(String),
    /// This one, and no other.
    Only(String),
}

impl Regions {
    pub(crate) fn new(endpoints: &[Endpoint], wish: &Wish) -> Result<Self, Error> {
        if endpoints.is_empty() {
            return Err(Error::config(
                "no region to talk to: give at least one URL, e.g. http://127.0.0.1:7001",
            ));
        }
        let mut targets = endpoints
            .iter()
            .map(|endpoint| {
                let url = parse_url(&endpoint.url)?;
                Ok(Arc::new(Target::new(endpoint.region.clone(), url, true)))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let choice = match wish {
            Wish::Nearest => Choice::Nearest(0),
            Wish::Prefer(name) => Choice::Preferred(position(endpoints, name)?),
            Wish::Only(name) => {
                position(endpoints, name)?;
                targets.retain(|target| target.name().as_ref() == Some(name));
                Choice::Preferred(0)
            }
        };
        Ok(Self {
            targets: RwLock::new(targets),
            choice: Mutex::new(choice),
        })
    }

    /// All, in the order in which they are to be asked.
    pub(crate) fn in_order(&self) -> Vec<Arc<Target>> {
        let targets = self.all();
        let standings: Vec<Standing> = targets.iter().map(|target| target.standing()).collect();
        let home = match *self.choice() {
            Choice::Preferred(home) | Choice::Nearest(home) => home,
        };
        ranking::order(&standings, home)
            .into_iter()
            .map(|at| Arc::clone(&targets[at]))
            .collect()
    }

    /// All, as they were given and found.
    pub(crate) fn all(&self) -> Vec<Arc<Target>> {
        self.targets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Makes the nearest one's home, unless another was asked for.
    pub(crate) fn settle(&self) {
        let targets = self.all();
        let standings: Vec<Standing> = targets.iter().map(|target| target.standing()).collect();
        if let Choice::Nearest(home) = &mut *self.choice() {
            *home = ranking::nearest(&standings, *home);
        }
    }

    /// Whether a region has answered anything since `then`; `None` where it is not known by name.
    pub(crate) fn is_back(&self, region: &str, then: Instant) -> Option<bool> {
        let targets = self.all();
        let mut named = targets
            .iter()
            .filter(|target| target.name().as_deref() == Some(region))
            .peekable();
        named.peek()?;
        Some(named.any(|target| target.heard_since(then) == Some(true)))
    }

    /// Takes in what the region at `from` tells about all. What the user gave stays as it is, and
    /// so do regions that the user named: who gave an address knows best how to reach it.
    pub(crate) fn learn(&self, from: &Target, told: &api::Regions) {
        from.hear(Some(&told.this));
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        for region in &told.regions {
            for url in &region.urls {
                // Tokens go to all of them: never from TLS to none.
                let Some(url) = parse_url(url)
                    .ok()
                    .filter(|url| url.scheme() == from.url.scheme())
                else {
                    continue;
                };
                if let Some(known) = targets.iter().find(|target| target.url == url) {
                    known
                        .health()
                        .name
                        .get_or_insert_with(|| region.name.clone());
                    continue;
                }
                let is_given = |target: &Arc<Target>| {
                    target.configured && target.name().as_ref() == Some(&region.name)
                };
                if targets.len() < TARGETS_MAX && !targets.iter().any(is_given) {
                    targets.push(Arc::new(Target::new(Some(region.name.clone()), url, false)));
                }
            }
        }
    }

    /// Whether any region is asked over TLS.
    pub(crate) fn any_tls(&self) -> bool {
        self.all()
            .iter()
            .any(|target| target.url.scheme() == "https")
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn position(endpoints: &[Endpoint], name: &str) -> Result<usize, Error> {
    let at = endpoints
        .iter()
        .position(|endpoint| endpoint.region.as_deref() == Some(name));
    at.ok_or_else(|| {
        let known: Vec<_> = endpoints
            .iter()
            .filter_map(|e| e.region.as_deref())
            .collect();
        if known.is_empty() {
            Error::config(format!(
                "no URL is known for region `{name}`: give URLs as name=url"
            ))
        } else {
            let known = known.join(", ");
            Error::config(format!("no region `{name}`; there are: {known}"))
        }
    })
}

fn parse_url(text: &str) -> Result<Url, Error> {
    let refused = |why: &str| Error::config(format!("`{text}` is no URL of a region: {why}"));
    let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(refused("it must start with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("it must not have a query or fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let list = Endpoint::parse_list("eu=http://a:1, us=https://b/x,http://c").unwrap();
        assert_eq!(list[0], Endpoint::named("eu", "http://a:1"));
        assert_eq!(list[1], Endpoint::named("us", "https://b/x"));
        assert_eq!(list[2].region, None);
        assert!(Endpoint::parse_list("").unwrap().is_empty());
        for bad in ["eu=", "127.0.0.1:80", "ftp://a", "http://a?x=1"] {
            assert!(Endpoint::parse_list(bad).is_err(), "{bad}");
        }
    }

    fn regions(list: &str, wish: &Wish) -> Result<Regions, Error> {
        Regions::new(&Endpoint::parse_list(list).unwrap(), wish)
    }

    fn urls(regions: &Regions) -> Vec<String> {
        let order = regions.in_order();
        order.iter().map(|target| target.url.to_string()).collect()
    }

    #[test]
    fn preference() {
        let list = "eu=http://a,us=http://b,us=http://c";
        let check = |wish: Wish, wanted: &[&str]| {
            assert_eq!(urls(&regions(list, &wish).unwrap()), wanted);
        };
        check(Wish::Nearest, &["http://a/", "http://b/", "http://c/"]);
        check(
            Wish::Prefer("us".into()),
            &["http://b/", "http://a/", "http://c/"],
        );
        check(Wish::Only("us".into()), &["http://b/", "http://c/"]);
        for wish in [Wish::Prefer("ap".into()), Wish::Only("ap".into())] {
            let error = regions(list, &wish).unwrap_err().to_string();
            assert_eq!(error, "no region `ap`; there are: eu, us, us");
        }
        assert!(Regions::new(&[], &Wish::Nearest).is_err());
    }

    #[test]
    fn a_region_that_fails_or_is_behind_is_asked_after_the_others() {
        let regions = regions("eu=http://a,us=http://b", &Wish::Prefer("eu".into())).unwrap();
        let all = regions.all();
        all[0].fall_behind();
        assert_eq!(urls(&regions), ["http://b/", "http://a/"]);
        all[1].fail(Fault::Gone);
        assert_eq!(urls(&regions), ["http://a/", "http://b/"]);
        all[1].succeed();
        assert_eq!(urls(&regions), ["http://b/", "http://a/"]);
    }

    #[test]
    fn home_is_where_answers_come_from_fastest() {
        let ms = Duration::from_millis;
        for (wish, home) in [
            (Wish::Nearest, "http://b/"),
            (Wish::Prefer("eu".into()), "http://a/"),
        ] {
            let regions = regions("eu=http://a,us=http://b", &wish).unwrap();
            regions.all()[0].measure(ms(100));
            regions.all()[1].measure(ms(10));
            regions.settle();
            assert_eq!(urls(&regions)[0], home);
        }
    }

    #[test]
    fn what_is_discovered_is_added_and_takes_nothing_away() {
        let regions = regions("http://a,eu=http://tunnel", &Wish::Nearest).unwrap();
        let region = |name: &str, urls: &[&str]| api::RegionInfo {
            name: name.to_owned(),
            url: urls[0].to_owned(),
            urls: urls.iter().map(|&url| url.to_owned()).collect(),
            status: api::RegionStatus::Up,
            progress_percent: None,
        };
        let told = api::Regions {
            this: "us".to_owned(),
            regions: vec![
                region("us", &["http://a"]),
                region("eu", &["http://e"]),
                region("ap", &["http://p", "https://p", "nonsense"]),
            ],
        };
        for _ in 0..2 {
            let all = regions.all();
            regions.learn(&all[0], &told);
            assert_eq!(urls(&regions), ["http://a/", "http://tunnel/", "http://p/"]);
        }
        let names: Vec<_> = regions.all().iter().map(|t| t.name().unwrap()).collect();
        assert_eq!(names, ["us", "eu", "ap"]);
        assert_eq!(regions.is_back("sa", Instant::now()), None);
        assert_eq!(regions.is_back("ap", Instant::now()), Some(false));
    }
}
