//! What can go wrong with a call.

use std::time::Duration;

use reqwest::Url;

use crate::api::{Problem, ProblemCode};
use crate::regions::Target;

/// Why a call did not succeed.
///
/// [`Error::remedy`] says what to do about it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use whimbrel_client::{Client, Error, RetryPolicy};
///
/// // Nobody listens on port 1.
/// let client = Client::builder()
///     .region("eu", "http://127.0.0.1:1")
///     .retry(RetryPolicy::NEVER)
///     .build()?;
/// let error = client.regions().await.unwrap_err();
/// assert!(matches!(error, Error::Connection { .. }));
/// assert!(error.is_transient());
/// println!("{error}: {}", error.remedy().unwrap());
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The region refused the call, or could not do it.
    #[error("{}", problem_line(.0))]
    Api(Box<Problem>),
    /// No answer came. The call may have been done; asking again with the same key is safe.
    #[error("no answer from {url}")]
    Connection {
        /// Whom we asked.
        url: String,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Several regions were asked, and none could do it. Asking again with the same key is safe.
    #[error("no region could do it: {}", tried_line(.tried))]
    NoRegion {
        /// Each region that was asked, and why it could not; the last one last.
        tried: Vec<Tried>,
    },
    /// An answer came that is none of this API.
    #[error("{url} answered {status} with something that is not the Whimbrel API; check the URL")]
    Decode {
        /// Whom we asked.
        url: String,
        /// The HTTP status, 0 for a frame of a stream.
        status: u16,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client cannot be set up like this, or a parameter cannot be sent.
    #[error("{0}")]
    Config(String),
}

/// A region that could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its name, where it is known.
    pub region: Option<String>,
    /// Where it was asked.
    pub url: String,
    /// Why it could not.
    pub reason: String,
}

impl Tried {
    pub(crate) fn new(target: &Target, error: &Error) -> Self {
        let reason = match error {
            Error::Connection { source, .. } => {
                let mut root: &dyn std::error::Error = &**source;
                while let Some(deeper) = root.source() {
                    root = deeper;
                }
                format!("no answer ({root})")
            }
            other => other.to_string(),
        };
        Self {
            region: target.name(),
            url: origin(&target.url),
            reason,
        }
    }

    /// The region's name, or else its URL.
    pub fn name(&self) -> &str {
        self.region.as_deref().unwrap_or(&self.url)
    }
}

impl Error {
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config(message.into())
    }

    /// The problem that the region described, if it did.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Api(problem) => Some(problem),
            Self::Connection { .. }
            | Self::NoRegion { .. }
            | Self::Decode { .. }
            | Self::Config(_) => None,
        }
    }

    /// The code to branch on, where the region answered.
    pub fn code(&self) -> Option<ProblemCode> {
        self.problem().map(|problem| problem.code)
    }

    /// The HTTP status, where the region answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api(problem) => Some(problem.status),
            Self::Decode { status, .. } if *status != 0 => Some(*status),
            Self::Connection { .. }
            | Self::NoRegion { .. }
            | Self::Decode { .. }
            | Self::Config(_) => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::NoRegion { .. } => true,
            Self::Api(_) | Self::Decode { .. } => {
                matches!(self.status(), Some(429 | 502..=504))
            }
            Self::Config(_) => false,
        }
    }

    /// What to do about it, where something can be said that the error itself does not.
    pub fn remedy(&self) -> Option<&'static str> {
        let code = match self {
            Self::Connection { .. } => {
                return Some("is the region up, and can it be reached from here?");
            }
            Self::NoRegion { .. } => {
                return Some(
                    "are the regions up, and can they be reached from here? Ask again later; with \
                     the same key nothing is written twice",
                );
            }
            Self::Decode { .. } | Self::Config(_) => return None,
            Self::Api(problem) => problem.code,
        };
        match code {
            ProblemCode::Unauthenticated => Some("get a new token"),
            ProblemCode::NotFound => Some("check the ids; what one may not see is not found"),
            ProblemCode::NotCaughtUp => Some(
                "this region lacks what was written elsewhere: wait, ask another region, or go on \
                 with what is available",
            ),
            ProblemCode::IdempotencyMismatch => Some("use another key, or none"),
            ProblemCode::RateLimited => Some("ask again in a while"),
            ProblemCode::Overloaded | ProblemCode::StoreUnavailable => {
                Some("ask again in a while, or ask another region")
            }
            ProblemCode::Internal => {
                Some("the log of the region says more; another region may do it")
            }
            _ => None,
        }
    }

    /// It is the region's fault: another may do it.
    pub(crate) fn is_of_region(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::NoRegion { .. } | Self::Config(_) => false,
            Self::Api(problem) => problem.status >= 500 && problem.code != ProblemCode::NotCaughtUp,
            Self::Decode { status, .. } => *status >= 500,
        }
    }

    /// What the region asks to wait before the next try.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.problem()?.retry_after_ms.map(Duration::from_millis)
    }
}

/// For messages: without path and query, which may hold a token.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn tried_line(tried: &[Tried]) -> String {
    let each: Vec<_> = tried
        .iter()
        .map(|tried| format!("{}: {}", tried.name(), tried.reason))
        .collect();
    each.join("; ")
}

fn problem_line(problem: &Problem) -> String {
    let mut line = if problem.detail.is_empty() {
        problem.title.clone()
    } else {
        problem.detail.clone()
    };
    for error in &problem.errors {
        // The detail often says the same already.
        if !line.contains(&error.message) {
            line.push_str(&format!("; {}: {}", error.field, error.message));
        }
    }
    if !problem.waiting_for.is_empty() {
        line.push_str(&format!("; waiting for {}", problem.waiting_for.join(", ")));
    }
    line.push_str(&format!(" ({} {}", problem.status, problem.code.as_str()));
    // What the caller did wrong needs nobody's log.
    if problem.status >= 500
        && let Some(request) = &problem.request
    {
        line.push_str(&format!(", request {request}"));
    }
    line.push(')');
    line
}
