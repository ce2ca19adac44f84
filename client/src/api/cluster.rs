//! Regions as clients see them, and the description of a cluster on one machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
use super::{example, openapi as form};

/// Answer of `GET /v1/regions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::regions))
)]
pub struct Regions {
    /// Name of the region that answers.
    #[serde(rename = "self")]
    #[cfg_attr(feature = "openapi", schema(value_type = form::RegionName))]
    pub this: String,
    /// All regions of the cluster.
    pub regions: Vec<RegionInfo>,
}

/// A region as another region sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegionInfo {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = form::RegionName))]
    pub name: String,
    /// Its first URL, without `/v1`.
    pub url: String,
    /// All its URLs.
    pub urls: Vec<String>,
    /// How it is.
    pub status: RegionStatus,
    /// How much of what others hold it has, in percent, while it is new or built anew: only in what it says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_percent: Option<u8>,
}

/// How a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RegionStatus {
    /// Reachable and caught up.
    Up,
    /// Reachable, but behind, or not taking writes; the latter only it says itself.
    Lagging,
    /// Not reachable.
    Down,
    /// A status that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Answer of `GET /admin/v1/digests` on the admin listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// Over all conversations.
    pub digest: String,
    /// Covers what was digested.
    pub cursor: String,
    /// Conversation to its digest.
    pub conversations: BTreeMap<String, String>,
}

/// `dev.json`: a cluster on one machine, as `whimbrel-node dev` describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevCluster {
    /// Id of the cluster.
    pub cluster: String,
    /// In the order of `--regions`.
    pub regions: Vec<DevRegion>,
    /// File with the private key (PKCS#8 PEM) that signs tokens.
    pub token_key: PathBuf,
}

/// One region of a [`DevCluster`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevRegion {
    /// Its name.
    pub name: String,
    /// The serving process of its first node; it can be killed alone.
    pub pid: u32,
    /// Of the public API, without `/v1`.
    pub url: String,
    /// Of the admin listener.
    pub admin_url: String,
    /// Address of the links to other regions, `ip:port`.
    pub quic: String,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// Its log file.
    pub log: PathBuf,
    /// All its nodes; the first is the one above.
    pub nodes: Vec<DevNode>,
    /// Its FoundationDB, if that is where it keeps its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foundationdb: Option<DevFoundationDb>,
}

/// The FoundationDB of a [`DevRegion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevFoundationDb {
    /// Its only process; it is started again when it dies.
    pub pid: u32,
    /// For `fdbcli -C`.
    pub cluster_file: PathBuf,
}

/// One node of a [`DevRegion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevNode {
    /// The serving process.
    pub pid: u32,
    /// Of the public API, without `/v1`.
    pub url: String,
    /// Of the admin listener.
    pub admin_url: String,
}
