//! The tries of a call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::Error;
use crate::api::{Problem, ProblemCode, header};
use crate::breaker::Fault;
use crate::client::Client;
use crate::error::origin;
use crate::regions::Target;
use crate::request::{Answer, Call};
use crate::session::{Brought, Carried, Session};
use crate::tour::{Failure, Tour};

/// So long a read looks for what it must include; then it goes on without, and says so. A region
/// waits two seconds by itself, so this is time for two or three. Less: more is reported missing.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// What a region answered to one try.
pub(crate) struct Reply<T> {
    answer: Answer<T>,
    /// Covers the answer's cursor and all that was carried.
    joined: Option<String>,
}

impl<T> Reply<T> {
    fn brought(&self) -> Brought<'_> {
        Brought {
            shown: self.answer.cursor.as_deref(),
            joined: self.joined.as_deref(),
        }
    }
}

/// A region that lacks a part of what was carried, and what it has of it.
struct Behind {
    target: Arc<Target>,
    available: String,
    waiting_for: Vec<String>,
}

impl<T: DeserializeOwned> Call<T> {
    pub(crate) async fn send(self) -> Result<Answer<T>, Error> {
        let carried = match self.session() {
            Some(session) if self.is_read() => self.client.carried(session).await?,
            Some(session) => {
                self.client.keep_small(session).await;
                Carried::default()
            }
            None => Carried::default(),
        };
        let header = carried.header();
        let mut tour = Tour::new(&self.client.shared);
        let mut behind: Option<Behind> = None;
        loop {
            let target = tour.next();
            let attempt = tour.attempt(&target, self.attempt(&target, &header)).await;
            let failure = match attempt {
                Ok(reply) => {
                    target.succeed();
                    if let Some(session) = self.session() {
                        session.learn(&carried, reply.brought());
                    }
                    return Ok(self.answer(reply, &target, &mut tour));
                }
                Err(failure) => failure,
            };
            let Some(now) = self.behind(&target, &failure, &carried) else {
                let failed = tour.failed(&target, failure).await;
                failed.map_err(|error| self.explain(error))?;
                continue;
            };
            let has_other = tour.pass_over(&target, &failure.error);
            // The one that lacks least is gone on with.
            let least = match behind.take() {
                Some(least) if least.waiting_for.len() <= now.waiting_for.len() => least,
                _ => now,
            };
            if has_other && tour.elapsed() < STALE_AFTER {
                behind = Some(least);
                continue;
            }
            match self.go_on(&least, &carried).await {
                Ok(reply) => {
                    least.target.succeed();
                    return Ok(self.answer(reply, &least.target, &mut tour));
                }
                Err(failure) => {
                    let failed = tour.failed(&least.target, failure).await;
                    failed.map_err(|error| self.explain(error))?;
                }
            }
        }
    }

    /// Only reads carry what was seen. Writes wait for nothing; and what has died with its region
    /// would live on in their joins.
    fn is_read(&self) -> bool {
        self.method == Method::GET
    }

    fn answer(&self, reply: Reply<T>, by: &Target, tour: &mut Tour) -> Answer<T> {
        tour.tried.retain(|tried| tried.url != origin(&by.url));
        self.client.shared.scout.look_around();
        let session = self.session().filter(|_| self.is_read());
        Answer {
            retries: tour.retries,
            stale: session.map(Session::stale).unwrap_or_default(),
            tried: std::mem::take(&mut tour.tried),
            ..reply.answer
        }
    }

    /// Whether the region lacks only what the session carried, which a read may go on without.
    fn behind(&self, target: &Arc<Target>, failure: &Failure, carried: &Carried) -> Option<Behind> {
        let may_retry = !self.client.shared.retry.give_up_after.is_zero();
        let is_of_session = self.after.is_none() && !carried.is_empty();
        if !is_of_session || !may_retry {
            return None;
        }
        let problem = failure.error.problem()?;
        if problem.code != ProblemCode::NotCaughtUp {
            return None;
        }
        Some(Behind {
            target: Arc::clone(target),
            available: problem.available.clone()?,
            waiting_for: problem.waiting_for.clone(),
        })
    }

    /// Reads what the region has; what it lacks is given up for now.
    async fn go_on(&self, behind: &Behind, carried: &Carried) -> Result<Reply<T>, Failure> {
        let Behind {
            target,
            available,
            waiting_for,
        } = behind;
        let outcome = self.attempt(target, available).await;
        let covers = match &outcome {
            Ok(reply) => reply.joined.as_ref().or(reply.answer.cursor.as_ref()),
            // It was looked for, and not found.
            Err(failure) if failure.fault.is_none() => None,
            Err(_) => return outcome,
        };
        if let Some(session) = self.session() {
            if !session.lose(carried, waiting_for, Instant::now()) {
                return Err(Error::config(
                    "too much is missing that this client has seen; start anew with another client",
                )
                .into());
            }
            session.add(covers.unwrap_or(available));
        }
        outcome
    }

    /// Where a part is missing, something may be not found for that reason.
    fn explain(&self, mut error: Error) -> Error {
        if self.is_read()
            && let Error::Api(problem) = &mut error
            && problem.code == ProblemCode::NotFound
            && let Some(session) = self.session()
        {
            problem.waiting_for = session.stale();
        }
        error
    }

    async fn attempt(&self, target: &Target, carried: &str) -> Result<Reply<T>, Failure> {
        let shared = &self.client.shared;
        let url = self.url(target)?;
        let mut request = shared
            .http
            .request(self.method.clone(), url.clone())
            .headers(self.headers(carried)?)
            .timeout(shared.timeout + self.extra_time);
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let lost = |error| connection(&url, error);
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let headers = response.headers();
        let cursor = text(headers, header::CURSOR);
        let joined = text(headers, header::JOINED);
        let region = text(headers, header::REGION);
        let request_id = text(headers, header::REQUEST);
        let replayed = text(headers, header::IDEMPOTENCY_REPLAYED).as_deref() == Some("true");
        let retry_after = text(headers, header::RETRY_AFTER).and_then(|s| s.parse().ok());
        target.hear(region.as_deref());
        let body = response.bytes().await.map_err(lost)?;
        if !status.is_success() {
            return Err(refusal(&url, status.as_u16(), &body, retry_after).into());
        }
        // No content reads as `()`.
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        let value = serde_json::from_slice(body).map_err(|source| Error::Decode {
            url: origin(&url),
            status: status.as_u16(),
            source: source.into(),
        })?;
        Ok(Reply {
            answer: Answer {
                value,
                cursor,
                region,
                replayed,
                request: request_id,
                retries: 0,
                tried: Vec::new(),
                stale: Vec::new(),
            },
            joined,
        })
    }
}

impl Client {
    /// What a call carries. Where that is too much for a header, parts of it are joined first.
    async fn carried(&self, session: &Session) -> Result<Carried, Error> {
        let regions = &self.shared.regions;
        session.regain(Instant::now(), |region, since| {
            regions.is_back(region, since)
        });
        loop {
            match session.carried() {
                Ok(carried) => return Ok(carried),
                Err(_) => self.join(session).await?,
            }
        }
    }

    /// Joins a part of what many writes or events have added: else it would grow without end. Who
    /// comes by meanwhile does not wait for it, and a read that needs it says what is wrong.
    pub(crate) async fn keep_small(&self, session: &Session) {
        if session.is_large() && session.joining.try_lock().is_ok() {
            let _ = self.join(session).await;
        }
    }

    /// Has a region join a part of what the session carries.
    pub(crate) async fn join(&self, session: &Session) -> Result<(), Error> {
        // Of calls side by side one does it for all.
        let _turn = session.joining.lock().await;
        let part = match session.carried() {
            Ok(_) if !session.is_large() => return Ok(()),
            Ok(part) | Err(part) => part,
        };
        let header = part.header();
        // It shows nothing, so it waits for nothing.
        let call: Call<IgnoredAny> = self.read(&["regions"]);
        let mut tour = Tour::new(&self.shared);
        loop {
            let target = tour.next();
            match tour.attempt(&target, call.attempt(&target, &header)).await {
                Ok(reply) if reply.joined.is_some() => {
                    session.learn(&part, reply.brought());
                    return Ok(());
                }
                Ok(_) => {
                    return Err(Error::config(
                        "the region does not join cursors; is there an older one among them?",
                    ));
                }
                Err(failure) => tour.failed(&target, failure).await?,
            }
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value: Option<&HeaderValue> = headers.get(name);
    value.and_then(|v| v.to_str().ok()).map(str::to_owned)
}

/// A connection that could not be made, or broke.
pub(crate) fn connection(url: &Url, error: reqwest::Error) -> Failure {
    let is_gone = error.is_connect() || error.is_timeout();
    Failure {
        fault: Some(if is_gone { Fault::Gone } else { Fault::Faulty }),
        error: Error::Connection {
            url: origin(url),
            source: error.without_url().into(),
        },
    }
}

/// An answer that is not a success.
pub(crate) fn refusal(url: &Url, status: u16, body: &[u8], retry_after: Option<u64>) -> Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(mut problem) => {
            problem.status = status;
            problem.retry_after_ms = problem
                .retry_after_ms
                .or(retry_after.map(|seconds| seconds.saturating_mul(1000)));
            Error::Api(Box::new(problem))
        }
        // A proxy in between that has lost its region.
        Err(_) if matches!(status, 502..=504) => {
            let mut problem = Problem::new(
                ProblemCode::Overloaded,
                format!("{} answered {status} without a reason", origin(url)),
            );
            problem.status = status;
            problem.retry_after_ms = retry_after.map(|seconds| seconds.saturating_mul(1000));
            Error::Api(Box::new(problem))
        }
        Err(source) => Error::Decode {
            url: origin(url),
            status,
            source: source.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        let url = Url::parse("http://a/v1/x").unwrap();
        let body = br#"{"type":"t","title":"t","status":503,"detail":"busy","code":"overloaded"}"#;
        let error = refusal(&url, 503, body, Some(2));
        assert_eq!(error.to_string(), "busy (503 overloaded)");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
        assert!(error.is_transient());
        assert!(refusal(&url, 502, b"<html>", None).is_transient());
        let error = refusal(&url, 404, b"<html>", None);
        assert!(!error.is_transient());
        assert_eq!(error.status(), Some(404));
    }
}
