//! What can go wrong with a call.

use crate::api::{Problem, ProblemCode};

/// Why a call did not succeed.
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

impl Error {
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config(message.into())
    }

    /// The problem that the region described, if it did.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Api(problem) => Some(problem),
            Self::Connection { .. } | Self::Decode { .. } | Self::Config(_) => None,
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
            Self::Connection { .. } | Self::Decode { .. } | Self::Config(_) => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::Api(_) | Self::Decode { .. } => {
                matches!(self.status(), Some(429 | 502..=504))
            }
            Self::Config(_) => false,
        }
    }
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
    line.push_str(&format!(" ({} {})", problem.status, problem.code.as_str()));
    line
}
