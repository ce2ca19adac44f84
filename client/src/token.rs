//! Tokens: JWTs signed with Ed25519 (`alg` is `EdDSA`).
//!
//! [`Claims`] is always there. Signing, and what a node needs to verify, stands behind the feature
//! `token`; its cryptography is ring's.

use serde::{Deserialize, Serialize};

#[cfg(feature = "token")]
mod key;
#[cfg(feature = "token")]
mod provider;

#[cfg(feature = "token")]
pub use key::{KeyError, SigningKey, VerifyingKey, public_keys, verify};
#[cfg(feature = "token")]
pub use provider::install_provider;

/// Scope that allows administration.
pub const SCOPE_ADMIN: &str = "admin";
/// Scope that allows acting for users.
pub const SCOPE_SERVICE: &str = "service";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// Until when it holds, in Unix seconds.
    pub exp: u64,
    /// Space-separated; absent for a plain user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl Claims {
    /// Whether `scope` is one of the token's scopes.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scope
            .as_deref()
            .is_some_and(|all| all.split_ascii_whitespace().any(|one| one == scope))
    }
}
