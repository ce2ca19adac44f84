//! One call: its parts, its tries, and its answer.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Problem, ProblemCode, header};
use crate::client::{Client, to_json};
use crate::{Error, api::limits};

/// A call that is sent when awaited.
///
/// Writes carry an idempotency key of their own, which all tries share; [`Call::key`] sets another.
#[must_use = "a call does nothing until it is awaited"]
#[derive(Clone)]
pub struct Call<T> {
    client: Client,
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    key: Option<String>,
    after: Option<String>,
    extra_time: Duration,
    answer: PhantomData<fn() -> T>,
}

/// What a region answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer itself.
    pub value: T,
    /// Covers what the answer shows or wrote; fit for [`Call::after`].
    pub cursor: Option<String>,
    /// The region that answered.
    pub region: Option<String>,
    /// The call had been done before under its key, and nothing was written now.
    pub replayed: bool,
    /// How often the call was tried again.
    pub retries: u32,
}

impl<T> Deref for Answer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Call<T> {
    pub(crate) fn new(client: &Client, method: Method, path: &[&str]) -> Self {
        Self {
            client: client.clone(),
            method,
            path: path.iter().map(|&part| part.to_owned()).collect(),
            query: Vec::new(),
            body: None,
            key: None,
            after: None,
            extra_time: Duration::ZERO,
            answer: PhantomData,
        }
    }

    pub(crate) fn with_fresh_key(mut self) -> Self {
        self.key = Some(fresh_key());
        self
    }

    pub(crate) fn body(mut self, body: &impl Serialize) -> Self {
        self.body = Some(to_json(body));
        self
    }

    pub(crate) fn query(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, value.to_owned()));
        self
    }

    pub(crate) fn query_opt(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub(crate) fn with_extra_time(mut self, extra: Duration) -> Self {
        self.extra_time = extra;
        self
    }

    /// The idempotency key of a write: 1 to 128 printable ASCII characters. The same key with the
    /// same body never writes twice, also in another region and after a restart of the program.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// A cursor that the answer to a read must include.
    pub fn after(mut self, cursor: impl Into<String>) -> Self {
        self.after = Some(cursor.into());
        self
    }

    fn url(&self) -> Result<Url, Error> {
        let mut url = self.client.shared.regions.preferred().clone();
        // `.` and `..` would be taken for steps in the path, and an empty part for none.
        if let Some(part) = self
            .path
            .iter()
            .find(|part| matches!(part.as_str(), "" | "." | ".."))
        {
            return Err(Error::config(format!("`{part}` is no id")));
        }
        url.path_segments_mut()
            .map_err(|()| Error::config("the URL of the region cannot have a path"))?
            .pop_if_empty()
            .push("v1")
            .extend(&self.path);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }

    fn headers(&self) -> Result<HeaderMap, Error> {
        let mut headers = self.client.headers();
        if self.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(key) = &self.key {
            let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
            let fits = (1..=max).contains(&key.len())
                && key.bytes().all(|byte| (0x20..0x7f).contains(&byte));
            let value = HeaderValue::from_str(key).ok().filter(|_| fits);
            let value = value.ok_or_else(|| {
                Error::config(format!(
                    "an idempotency key has 1 to {max} printable ASCII characters"
                ))
            })?;
            headers.insert(header::IDEMPOTENCY_KEY, value);
        }
        if let Some(after) = &self.after {
            let value = HeaderValue::from_str(after)
                .map_err(|_| Error::config("`after` is no cursor of Whimbrel"))?;
            headers.insert(header::AFTER, value);
        }
        Ok(headers)
    }
}

impl<T: DeserializeOwned> Call<T> {
    async fn send(self) -> Result<Answer<T>, Error> {
        let url = self.url()?;
        let headers = self.headers()?;
        let started = Instant::now();
        let mut retries = 0;
        loop {
            let error = match self.attempt(url.clone(), headers.clone()).await {
                Ok(answer) => return Ok(Answer { retries, ..answer }),
                Err(error) => error,
            };
            let delay = if error.is_transient() {
                self.client.shared.retry.next(
                    retries,
                    started.elapsed(),
                    retry_after(&error),
                    rand::random(),
                )
            } else {
                None
            };
            let Some(delay) = delay else {
                return Err(error);
            };
            retries += 1;
            tokio::time::sleep(delay).await;
        }
    }

    async fn attempt(&self, url: Url, headers: HeaderMap) -> Result<Answer<T>, Error> {
        let shared = &self.client.shared;
        let mut request = shared
            .http
            .request(self.method.clone(), url.clone())
            .headers(headers)
            .timeout(shared.timeout + self.extra_time);
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let response = request
            .send()
            .await
            .map_err(|error| connection(&url, error))?;
        let status = response.status();
        let text = |name| {
            let value: Option<&HeaderValue> = response.headers().get(name);
            value.and_then(|v| v.to_str().ok()).map(str::to_owned)
        };
        let cursor = text(header::CURSOR);
        let region = text(header::REGION);
        let replayed = text(header::IDEMPOTENCY_REPLAYED).as_deref() == Some("true");
        let retry_after = text(header::RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
        let body = response
            .bytes()
            .await
            .map_err(|error| connection(&url, error))?;
        if !status.is_success() {
            return Err(refusal(&url, status.as_u16(), &body, retry_after));
        }
        // No content reads as `()`.
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        let value = serde_json::from_slice(body).map_err(|source| Error::Decode {
            url: origin(&url),
            status: status.as_u16(),
            source: source.into(),
        })?;
        Ok(Answer {
            value,
            cursor,
            region,
            replayed,
            retries: 0,
        })
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for Call<T> {
    type Output = Result<Answer<T>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl Client {
    /// What goes with every request.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.shared.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        if let Some(user) = &self.act_as {
            headers.insert(header::ACT_AS, user.clone());
        }
        headers
    }
}

/// A random idempotency key of 128 bits.
pub(crate) fn fresh_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// What the region asks to wait before the next try.
pub(crate) fn retry_after(error: &Error) -> Option<Duration> {
    error.problem()?.retry_after_ms.map(Duration::from_millis)
}

pub(crate) fn connection(url: &Url, error: reqwest::Error) -> Error {
    Error::Connection {
        url: origin(url),
        source: error.without_url().into(),
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

/// For messages: without path and query, which may hold a token.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PostMessage;

    fn client() -> Client {
        Client::builder()
            .url("http://127.0.0.1:1/base")
            .token("t")
            .build()
            .unwrap()
    }

    #[test]
    fn urls_are_escaped() {
        let call = client().react("c", "m", "👍/").query("a", "b c&d");
        assert_eq!(
            call.url().unwrap().as_str(),
            "http://127.0.0.1:1/base/v1/conversations/c/messages/m/reactions/%F0%9F%91%8D%2F?a=b+c%26d"
        );
        for bad in ["", ".", ".."] {
            assert!(client().conversation(bad).url().is_err());
        }
    }

    #[test]
    fn writes_have_a_key_and_reads_have_none() {
        let (one, two) = (
            client().post("c", &PostMessage::default()),
            client().redact("c", "m"),
        );
        assert_ne!(one.key, two.key);
        assert_eq!(one.key.as_ref().unwrap().len(), 32);
        assert_eq!(client().messages("c").key, None);
        assert_eq!(
            one.clone().key("mine").headers().unwrap()[header::IDEMPOTENCY_KEY],
            "mine"
        );
        for bad in ["", "grün", "a\nb", &"x".repeat(129)] {
            assert!(one.clone().key(bad).headers().is_err(), "{bad}");
        }
    }

    #[test]
    fn refusals() {
        let url = Url::parse("http://a/v1/x").unwrap();
        let body = br#"{"type":"t","title":"t","status":503,"detail":"busy","code":"overloaded"}"#;
        let error = refusal(&url, 503, body, Some(2));
        assert_eq!(error.to_string(), "busy (503 overloaded)");
        assert_eq!(retry_after(&error), Some(Duration::from_secs(2)));
        assert!(error.is_transient());
        assert!(refusal(&url, 502, b"<html>", None).is_transient());
        let error = refusal(&url, 404, b"<html>", None);
        assert!(!error.is_transient());
        assert_eq!(error.status(), Some(404));
    }
}
