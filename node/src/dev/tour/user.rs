//! A user in a region: the calls of the API that the tour makes.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header, request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use whimbrel_client::api::{
    Conversation, CreateConversation, EditMessage, History, Message, MessagePage, PostMessage,
    PostedMessage, Problem, header as names,
};

use super::super::http;

/// Longer than any call of the API waits for other regions.
const CALL_MAX: Duration = Duration::from_secs(10);

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Nobody was there, or they went away before they answered.
    #[error("{region}: {reason:#}")]
    NoAnswer {
        /// Who was asked.
        region: String,
        /// What became of the connection.
        reason: anyhow::Error,
    },
    /// The answer is no success, or none that can be read.
    #[error("{region} answers {status}: {detail}")]
    Refused {
        /// Who was asked.
        region: String,
        /// Of HTTP.
        status: StatusCode,
        /// In words.
        detail: String,
    },
}

type Result<T> = std::result::Result<T, Failed>;

/// One user, who talks to one region.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// The region's name.
    pub(super) region: String,
    pub(super) api: SocketAddr,
    pub(super) token: String,
}

impl User {
    pub(super) async fn create(&self, body: &CreateConversation) -> Result<Conversation> {
        self.write(Method::POST, "", body, None).await
    }

    pub(super) async fn post(&self, conversation: &str, text: &str) -> Result<PostedMessage> {
        let body = said(text);
        let path = format!("/{conversation}/messages");
        self.write(Method::POST, &path, &body, None).await
    }

    /// A post that may be sent again, elsewhere too: one key, one message.
    pub(super) async fn post_once(
        &self,
        conversation: &str,
        text: &str,
        key: &str,
        acks: usize,
    ) -> Result<PostedMessage> {
        let body = said(text);
        let path = format!("/{conversation}/messages?ack=regions:{acks}");
        self.write(Method::POST, &path, &body, Some(key)).await
    }

    pub(super) async fn edit(&self, of: &Message, text: &str) -> Result<Message> {
        let body = EditMessage {
            text: text.to_owned(),
            base: of.revision.clone(),
        };
        let path = format!("/{}/messages/{}", of.conversation, of.id);
        self.write(Method::PATCH, &path, &body, None).await
    }

    pub(super) async fn message(&self, conversation: &str, id: &str) -> Result<Message> {
        self.read(&format!("/{conversation}/messages/{id}")).await
    }

    pub(super) async fn history(&self, of: &Message) -> Result<History> {
        let (conversation, id) = (&of.conversation, &of.id);
        self.read(&format!("/{conversation}/messages/{id}/history"))
            .await
    }

    /// All messages of a short conversation, oldest first.
    pub(super) async fn page(&self, conversation: &str) -> Result<Vec<Message>> {
        let page: MessagePage = self.read(&format!("/{conversation}/messages")).await?;
        Ok(page.messages)
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(self.request(Method::GET, path), Ok(Body::empty()))
            .await
    }

    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        key: Option<&str>,
    ) -> Result<T> {
        let mut request = self.request(method, path);
        if let Some(key) = key {
            request = request.header(names::IDEMPOTENCY_KEY, key);
        }
        let body = serde_json::to_vec(body).map(Body::from);
        self.call(request, body).await
    }

    fn request(&self, method: Method, path: &str) -> request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("/v1/conversations{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
    }

    async fn call<T: DeserializeOwned>(
        &self,
        request: request::Builder,
        body: serde_json::Result<Body>,
    ) -> Result<T> {
        let exchange = async {
            let request = request.body(body?)?;
            http::call(self.api, request, CALL_MAX).await
        };
        let answer = exchange.await.map_err(|reason| Failed::NoAnswer {
            region: self.region.clone(),
            reason,
        })?;
        let status = answer.status();
        let refused = |detail: String| Failed::Refused {
            region: self.region.clone(),
            status,
            detail,
        };
        if !status.is_success() {
            let problem = serde_json::from_slice::<Problem>(answer.body());
            return Err(refused(
                problem.map_or_else(|error| error.to_string(), |problem| problem.detail),
            ));
        }
        serde_json::from_slice(answer.body()).map_err(|error| refused(error.to_string()))
    }
}

fn said(text: &str) -> PostMessage {
    PostMessage {
        text: text.to_owned(),
        ..PostMessage::default()
    }
}
