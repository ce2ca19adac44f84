//! Ed25519 key pairs that sign and verify tokens.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{KeyPair, PKCS_ED25519};

use crate::files::{self, Access};

/// Where a token key pair stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKeys {
    /// PKCS#8 PEM; signs tokens. Only who issues tokens needs it, nodes do not.
    pub private: PathBuf,
    /// SPKI PEM; goes into `auth.keys` of every node.
    pub public: PathBuf,
}

impl TokenKeys {
    /// The names of a pair's files in `dir`.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            private: dir.join("token.key.pem"),
            public: dir.join("token.pub.pem"),
        }
    }
}

/// Makes a pair in `dir`. Existing files are left alone, and an error.
pub fn make(dir: &Path) -> anyhow::Result<TokenKeys> {
    files::make_dir(dir)?;
    let paths = TokenKeys::in_dir(dir);
    let pair = KeyPair::generate_for(&PKCS_ED25519).context("cannot make a key pair")?;
    files::write_new(&paths.private, &pair.serialize_pem(), Access::Owner)?;
    files::write_new(&paths.public, &pair.public_key_pem(), Access::Everyone)?;
    Ok(paths)
}
