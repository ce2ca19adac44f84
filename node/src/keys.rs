//! Ed25519 key pairs that sign and verify tokens.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data_encoding::BASE64;
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

/// What precedes the seed in the first version of PKCS#8 (RFC 5208, RFC 8410), and in the second.
const PKCS8_V1: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const SEED_BYTES: usize = 32;

/// The first version of PKCS#8, without the public key: OpenSSL, and many a program that signs tokens,
/// reads no other.
pub(crate) fn private_pem(pair: &KeyPair) -> anyhow::Result<String> {
    let der = pair.serialize_der();
    let seed = der
        .get(PKCS8_V1.len()..PKCS8_V1.len() + SEED_BYTES)
        .context("the key pair has no seed")?;
    let text = BASE64.encode(&[&PKCS8_V1[..], seed].concat());
    Ok(format!(
        "-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"
    ))
}

/// Makes a pair in `dir`. Existing files are left alone, and an error.
pub fn make(dir: &Path) -> anyhow::Result<TokenKeys> {
    files::make_dir(dir)?;
    let paths = TokenKeys::in_dir(dir);
    let pair = KeyPair::generate_for(&PKCS_ED25519).context("cannot make a key pair")?;
    files::write_new(&paths.private, &private_pem(&pair)?, Access::Owner)?;
    files::write_new(&paths.public, &pair.public_key_pem(), Access::Everyone)?;
    Ok(paths)
}
