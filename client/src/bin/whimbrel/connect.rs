//! From options and environment to a client.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use whimbrel_client::api::DevCluster;
use whimbrel_client::token::{Claims, SigningKey};
use whimbrel_client::{Client, ClientBuilder, Endpoint};

use crate::args::Global;
use crate::usage;

/// Where a dev cluster is looked for when nothing is said.
const DEV_DIR: &str = ".whimbrel";

/// How long a token holds that is signed for one command, `tail` included.
const OWN_TOKEN_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Who makes the calls when no user and no token is named.
pub(crate) struct Caller {
    /// Default of `--user` with a dev cluster.
    pub(crate) user: Option<&'static str>,
    /// Scope of a token that is signed here.
    pub(crate) scope: Option<&'static str>,
    /// No token is needed.
    pub(crate) anonymous: bool,
}

impl Caller {
    pub(crate) const USER: Self = Self {
        user: None,
        scope: None,
        anonymous: false,
    };
}

/// A client for a user's calls.
pub(crate) async fn client(global: &Global) -> anyhow::Result<Client> {
    client_of(global, &Caller::USER, steady()).await
}

/// For one command: where no region is named it asks the first, and others where that fails. It
/// looks for no nearer one: it is over before that were found.
pub(crate) fn steady() -> ClientBuilder {
    Client::builder().discover(false)
}

/// A client.
pub(crate) async fn client_of(
    global: &Global,
    caller: &Caller,
    mut builder: ClientBuilder,
) -> anyhow::Result<Client> {
    let dev = dev_dir(global).map(|dir| read_dev(&dir)).transpose()?;
    let endpoints = endpoints(global, dev.as_ref())?;
    if let Some(token) = token(global, caller, dev.as_ref())? {
        builder = builder.token(token);
    }
    if let Some(user) = &global.act_as {
        builder = builder.act_as(user);
    }
    with_region(builder, endpoints, global.region.as_deref()).await
}

/// Where the regions are: from options, a dev cluster, or the environment.
pub(crate) fn endpoints(
    global: &Global,
    dev: Option<&DevCluster>,
) -> anyhow::Result<Vec<Endpoint>> {
    Ok(match (&global.urls, dev, env("WHIMBREL_URLS")) {
        (Some(list), ..) => Endpoint::parse_list(list)?,
        (None, Some(dev), _) => dev
            .regions
            .iter()
            .flat_map(|region| {
                let nodes = region.nodes.iter();
                nodes.map(|node| Endpoint::named(&region.name, &node.url))
            })
            .collect(),
        (None, None, Some(list)) => Endpoint::parse_list(&list)?,
        (None, None, None) => {
            return Err(usage(format!(
                "where is the cluster? Give `--dev DIR` or `--urls LIST`, or set WHIMBREL_URLS; \
                 there is no folder {DEV_DIR} here"
            )));
        }
    })
}

/// Keeps to a region; one that is not among `endpoints` by name is asked for.
async fn with_region(
    builder: ClientBuilder,
    mut endpoints: Vec<Endpoint>,
    region: Option<&str>,
) -> anyhow::Result<Client> {
    let Some(name) = region else {
        return Ok(builder.endpoints(endpoints).build()?);
    };
    let is_named = |e: &Endpoint| e.region.as_deref() == Some(name);
    let any_unnamed = endpoints.iter().any(|e| e.region.is_none());
    if !endpoints.iter().any(is_named) && any_unnamed {
        let client = builder.clone().endpoints(endpoints.clone()).build()?;
        let known = client.regions().await?.value.regions;
        endpoints = known
            .into_iter()
            .map(|region| Endpoint::named(region.name, region.url))
            .collect();
    }
    Ok(builder.endpoints(endpoints).only(name).build()?)
}

fn token(
    global: &Global,
    caller: &Caller,
    dev: Option<&DevCluster>,
) -> anyhow::Result<Option<String>> {
    if let Some(token) = &global.token {
        return Ok(Some(token.clone()));
    }
    let from_env = env("WHIMBREL_TOKEN");
    let user = match (&global.user, &from_env) {
        (Some(user), _) => user.as_str(),
        (None, Some(_)) => return Ok(from_env),
        (None, None) if caller.anonymous => return Ok(None),
        (None, None) => match (caller.user, dev) {
            (Some(user), Some(_)) => user,
            (_, Some(_)) => {
                return Err(usage("who are you? Give `--user NAME` or `--token TOKEN`"));
            }
            (_, None) => {
                return Err(usage(
                    "who are you? Give `--token TOKEN` or set WHIMBREL_TOKEN \
                     (with a dev cluster: `--dev DIR --user NAME`)",
                ));
            }
        },
    };
    let Some(dev) = dev else {
        return Err(usage(
            "`--user` signs a token with the key of a dev cluster: give `--dev DIR` too. \
             Elsewhere give `--token TOKEN`",
        ));
    };
    let token = sign(&dev.token_key, user, caller.scope, OWN_TOKEN_TTL)?;
    Ok(Some(token))
}

/// A token signed with the key in a file.
pub(crate) fn sign(
    key: &Path,
    user: &str,
    scope: Option<&str>,
    ttl: Duration,
) -> anyhow::Result<String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock of this machine stands before 1970")?;
    let claims = Claims {
        sub: user.to_owned(),
        exp: (now + ttl).as_secs(),
        scope: scope.map(str::to_owned),
    };
    let key = SigningKey::from_pem_file(key)
        .with_context(|| format!("cannot sign with {}", key.display()))?;
    Ok(key.sign(&claims)?)
}

/// The folder of the dev cluster that is meant, if one is.
pub(crate) fn dev_dir(global: &Global) -> Option<PathBuf> {
    if let Some(dir) = &global.dev {
        return Some(dir.clone());
    }
    let nothing_said = global.urls.is_none() && env("WHIMBREL_URLS").is_none();
    let default = PathBuf::from(DEV_DIR);
    (nothing_said && default.join("dev.json").exists()).then_some(default)
}

/// Reads `dev.json`.
pub(crate) fn read_dev(dir: &Path) -> anyhow::Result<DevCluster> {
    let path = dir.join("dev.json");
    let bytes = std::fs::read(&path).with_context(|| {
        format!(
            "cannot read {} (does `whimbrel-node dev --data {}` run?)",
            path.display(),
            dir.display()
        )
    })?;
    let mut dev: DevCluster = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} does not describe a dev cluster", path.display()))?;
    if dev.token_key.is_relative() && !dev.token_key.exists() {
        dev.token_key = dir.join(&dev.token_key);
    }
    Ok(dev)
}

/// An environment variable that is set to something.
fn env(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}
