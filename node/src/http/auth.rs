//! Who calls: tokens, and users for whom a service acts.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use whimbrel_client::api::limits::USER_BYTES_MAX;
use whimbrel_client::api::{ProblemCode, header as names};
use whimbrel_client::token::{
    Claims, SCOPE_ADMIN, SCOPE_SERVICE, VerifyingKey, public_keys, verify,
};

use super::{App, Failure};
use crate::clock::unix_ms;

/// Longest token.
const TOKEN_BYTES_MAX: usize = 4096;
/// Verified tokens that are remembered: about 10 MiB.
const CACHE_TOKENS_MAX: usize = 50_000;
/// How often the key files are looked at.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Verifies tokens, and remembers those that it verified.
#[derive(Debug)]
pub struct Auth {
    files: Vec<PathBuf>,
    keys: RwLock<Arc<Keys>>,
    cache: Mutex<HashMap<blake3::Hash, Arc<Claims>>>,
}

struct Keys {
    keys: Vec<VerifyingKey>,
    modified: Vec<Option<SystemTime>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl Keys {
    fn read(files: &[PathBuf]) -> anyhow::Result<Self> {
        // Before the content: a change in between is seen at the next look.
        let modified = modified(files);
        let mut keys = Vec::new();
        for file in files {
            let content = std::fs::read(file)
                .map_err(|e| anyhow::anyhow!("auth.keys: {}: {e}", file.display()))?;
            let read = public_keys(&content)
                .map_err(|e| anyhow::anyhow!("auth.keys: {}: {e}", file.display()))?;
            keys.extend(read);
        }
        Ok(Self { keys, modified })
    }
}

fn modified(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files
        .iter()
        .map(|file| file.metadata().and_then(|m| m.modified()).ok())
        .collect()
}

impl Auth {
    /// Reads the public keys.
    pub fn new(files: Vec<PathBuf>) -> anyhow::Result<Self> {
        let keys = RwLock::new(Arc::new(Keys::read(&files)?));
        Ok(Self {
            files,
            keys,
            cache: Mutex::default(),
        })
    }

    /// Reads the keys again if a file has changed. Unreadable ones leave the old keys in force.
    pub fn reload_if_changed(&self) {
        let held = self
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if held.modified == modified(&self.files) {
            return;
        }
        match Keys::read(&self.files) {
            Ok(keys) => {
                tracing::info!(keys = keys.keys.len(), "token keys were read again");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                // What a withdrawn key signed must be verified anew.
                self.cache
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clear();
            }
            Err(error) => tracing::warn!(%error, "token keys cannot be read; the old ones stay"),
        }
    }

    /// Who sent a request with these headers.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        let token = bearer(headers)?;
        let claims = self.verify(token)?;
        let is_service = claims.has_scope(SCOPE_SERVICE);
        let mut caller = Caller {
            user: claims.sub.clone(),
            is_admin: claims.has_scope(SCOPE_ADMIN),
            is_service,
        };
        if let Some(user) = headers.get(names::ACT_AS) {
            if !is_service {
                return Err(Failure::new(
                    ProblemCode::Forbidden,
                    "Whimbrel-Act-As needs a token with scope `service`",
                ));
            }
            let user = std::str::from_utf8(user.as_bytes())
                .map_err(|_| Failure::malformed("Whimbrel-Act-As", "must be UTF-8"))?;
            check_user("Whimbrel-Act-As", user)?;
            user.clone_into(&mut caller.user);
        }
        Ok(caller)
    }

    fn verify(&self, token: &str) -> Result<Arc<Claims>, Failure> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(unauthenticated("the token is too long"));
        }
        let now = u64::try_from(unix_ms() / 1_000).unwrap_or_default();
        let key = blake3::hash(token.as_bytes());
        let cached = self
            .cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(claims) = cached {
            return if claims.exp > now {
                Ok(claims)
            } else {
                Err(unauthenticated("the token has expired; get a new one"))
            };
        }
        let keys = self
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let claims = verify(token, &keys.keys).map_err(|error| {
            // The reason, such as an expired token, stands below the general error.
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            let reason = reason.unwrap_or_else(|| error.to_string());
            unauthenticated(&format!("the token is not valid: {reason}"))
        })?;
        check_user("sub", &claims.sub).map_err(|_| {
            unauthenticated("the token's `sub` must be 1 to 128 bytes without control characters")
        })?;
        let claims = Arc::new(claims);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_TOKENS_MAX {
            cache.clear();
        }
        cache.insert(key, claims.clone());
        Ok(claims)
    }
}

fn unauthenticated(detail: &str) -> Failure {
    Failure::new(ProblemCode::Unauthenticated, detail)
}

/// Checks the name of a user.
pub fn check_user(field: &str, user: &str) -> Result<(), Failure> {
    if user.is_empty() || user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
        return Err(Failure::malformed(
            field,
            format!("a user is 1 to {USER_BYTES_MAX} bytes without control characters"),
        ));
    }
    Ok(())
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user, or the one for whom a service acts.
    pub user: String,
    /// May do anywhere what owners may do.
    pub is_admin: bool,
    /// May set original times, and is exempt from per-user limits.
    pub is_service: bool,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        app.auth.caller(&parts.headers)
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Failure> {
    let missing = || unauthenticated("send `Authorization: Bearer <token>`");
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|v| v.split_once(' '))
        .ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(missing());
    }
    Ok(token.trim())
}
