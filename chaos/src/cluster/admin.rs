//! What admin listeners tell.

use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use whimbrel_client::api::Digests;

/// A frozen region must not hold up who asks whether it is ready.
const READINESS_MAX: Duration = Duration::from_secs(2);
/// What reads a store takes longer, with much in it or on a slow disk.
const READ_MAX: Duration = Duration::from_secs(20);

/// Asks admin listeners.
#[derive(Clone, Debug)]
pub struct Admin {
    http: reqwest::Client,
}

/// What a region says of its links.
#[derive(Clone, Debug, Deserialize)]
pub struct Replication {
    /// The life of its store.
    pub origin: String,
    /// The other regions.
    pub peers: Vec<Peer>,
    /// What only this region has.
    pub unreplicated: Unreplicated,
}

/// What no other region is known to have.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Unreplicated {
    /// How many ops.
    pub ops: u64,
    /// Seconds since the oldest of them was stamped; 0 where there is none.
    pub oldest_seconds: f64,
    /// Whether all of them were counted.
    pub complete: bool,
}

/// What a region says of another.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Age of the oldest op that it lacks.
    pub lag_seconds: f64,
    /// Its wall clock against that of who says it.
    pub clock_offset_ms: Option<i64>,
}

impl Admin {
    /// A client for all.
    pub fn new() -> anyhow::Result<Self> {
        // Refused when there is one already, which is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .tls_certs_only([])
            .timeout(READ_MAX)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http })
    }

    async fn get<T: DeserializeOwned>(&self, url: String) -> anyhow::Result<T> {
        let answer = self.http.get(&url).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// `ready`, why it is not, or `no answer`.
    pub async fn readiness(&self, admin_url: &str) -> String {
        let asked = async {
            let asked = self.http.get(format!("{admin_url}/readyz"));
            let answer = asked.timeout(READINESS_MAX).send().await?;
            answer.json::<Value>().await
        };
        let answer = asked.await.ok();
        let status = answer.and_then(|json| json["status"].as_str().map(str::to_owned));
        status.unwrap_or_else(|| "no answer".to_owned())
    }

    /// Links.
    pub async fn replication(&self, admin_url: &str) -> anyhow::Result<Replication> {
        self.get(format!("{admin_url}/admin/v1/replication")).await
    }

    /// Digests of all conversations.
    pub async fn digests(&self, admin_url: &str) -> anyhow::Result<Digests> {
        self.get(format!("{admin_url}/admin/v1/digests")).await
    }
}
