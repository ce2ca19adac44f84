//! One call: its parts and its answer.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::api::{header, limits};
use crate::client::{Client, to_json};
use crate::error::Tried;
use crate::regions::Target;
use crate::session::Session;

/// A call that is sent when awaited.
///
/// Writes carry an idempotency key of their own, which all tries share; [`Call::key`] sets another.
#[must_use = "a call does nothing until it is awaited"]
#[derive(Clone)]
pub struct Call<T> {
    pub(crate) client: Client,
    pub(crate) method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
    key: Option<String>,
    trace: String,
    pub(crate) after: Option<String>,
    in_session: bool,
    pub(crate) extra_time: Duration,
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
    /// The id by which logs and traces of all regions know the call.
    pub request: Option<String>,
    /// How often the call was tried again.
    pub retries: u32,
    /// Regions that could not do it before this one did, and why.
    pub tried: Vec<Tried>,
    /// Of a read: regions whose part is missing, although this client has seen or written it. It
    /// was not to be had anywhere in time: the region is down, or cut off. Empty nearly always.
    /// Later reads say so, too, until the region is back; then they include its part again.
    pub stale: Vec<String>,
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
            trace: fresh_trace(),
            after: None,
            in_session: true,
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

    /// Carries nothing of what was seen, and adds nothing to it.
    pub(crate) fn outside_session(mut self) -> Self {
        self.in_session = false;
        self
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

    /// The key of a write.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The trace that the call belongs to, as W3C Trace Context: where an app traces its own calls,
    /// and the cluster exports spans, both are one trace. Without it a call is a trace of its own,
    /// whose spans are kept where the region samples it. All tries share it.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.trace = traceparent.into();
        self
    }

    /// A cursor that the answer to a read must include, or several, comma-separated. The session's
    /// own go along anyway; but what is asked for here is never left out: where it cannot be had,
    /// the call fails with [`ProblemCode::NotCaughtUp`](crate::api::ProblemCode::NotCaughtUp).
    pub fn after(mut self, cursor: impl Into<String>) -> Self {
        self.after = Some(cursor.into());
        self
    }

    /// The session that it belongs to.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.client.session.as_deref().filter(|_| self.in_session)
    }

    pub(crate) fn url(&self, target: &Target) -> Result<Url, Error> {
        // `.` and `..` would be taken for steps in the path, and an empty part for none.
        if let Some(part) = self
            .path
            .iter()
            .find(|part| matches!(part.as_str(), "" | "." | ".."))
        {
            return Err(Error::config(format!("`{part}` is no id")));
        }
        let mut url = target.url_of(self.path.iter().map(String::as_str))?;
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }

    /// `carried` goes beside what the caller asked for.
    pub(crate) fn headers(&self, carried: &str) -> Result<HeaderMap, Error> {
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
        let trace = HeaderValue::from_str(&self.trace)
            .map_err(|_| Error::config("`traceparent` is no W3C Trace Context"))?;
        headers.insert(header::TRACEPARENT, trace);
        let after = match &self.after {
            None => carried.to_owned(),
            Some(after) if carried.is_empty() => after.clone(),
            Some(after) => format!("{after},{carried}"),
        };
        if !after.is_empty() || self.after.is_some() {
            let value = HeaderValue::from_str(&after)
                .map_err(|_| Error::config("`after` is no cursor of Whimbrel"))?;
            headers.insert(header::AFTER, value);
        }
        Ok(headers)
    }
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for Call<T> {
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

/// A trace of its own, not sampled unless the region does.
fn fresh_trace() -> String {
    // Zeros are no ids.
    let (trace, span) = (rand::random::<u128>().max(1), rand::random::<u64>().max(1));
    format!("00-{trace:032x}-{span:016x}-00")
}

/// A random idempotency key of 128 bits.
pub(crate) fn fresh_key() -> String {
    format!("{:032x}", rand::random::<u128>())
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
        let target = client().shared.regions.all().remove(0);
        let call = client().react("c", "m", "👍/").query("a", "b c&d");
        assert_eq!(
            call.url(&target).unwrap().as_str(),
            "http://127.0.0.1:1/base/v1/conversations/c/messages/m/reactions/%F0%9F%91%8D%2F?a=b+c%26d"
        );
        for bad in ["", ".", ".."] {
            assert!(client().conversation(bad).url(&target).is_err());
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
            one.clone().key("mine").headers("").unwrap()[header::IDEMPOTENCY_KEY],
            "mine"
        );
        for bad in ["", "grün", "a\nb", &"x".repeat(129)] {
            assert!(one.clone().key(bad).headers("").is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_asked_for_and_what_is_carried_go_together() {
        let after = |call: Call<_>, carried| {
            let headers = call.headers(carried).unwrap();
            headers
                .get(header::AFTER)
                .map(|v| v.to_str().unwrap().to_owned())
        };
        let read = || client().messages("c");
        assert_eq!(after(read(), ""), None);
        assert_eq!(after(read(), "a,b").unwrap(), "a,b");
        assert_eq!(after(read().after("x"), "").unwrap(), "x");
        assert_eq!(after(read().after("x"), "a,b").unwrap(), "x,a,b");
        // For the region to refuse.
        assert_eq!(after(read().after(""), "").unwrap(), "");
        assert!(read().after("a\nb").headers("").is_err());
    }
}
