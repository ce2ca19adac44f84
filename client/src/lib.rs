//! Wire types, SDK and command line of Whimbrel.
//!
//! | feature | brings |
//! |---|---|
//! | none | [`api`], the wire types, and [`token::Claims`] |
//! | `token` | signing and verifying of tokens |
//! | `sdk` | `Client`: typed calls over HTTP and WebSocket, in whichever region is up; `OfflineQueue` |
//! | `cli` | the `whimbrel` program, the import of chat exports, the load generator, and capacity plans |
//!
#![cfg_attr(
    feature = "sdk",
    doc = r#"
```no_run
# async fn example() -> Result<(), whimbrel_client::Error> {
use whimbrel_client::Client;
use whimbrel_client::api::PostMessage;

let client = Client::builder()
    .region("eu", "http://127.0.0.1:7001")
    .token("eyJ...")
    .build()?;
let message = PostMessage { text: "hello".to_owned(), ..PostMessage::default() };
let posted = client.post("conversation", &message).await?;
println!("{} was taken by {:?}", posted.message.id, posted.region);

let mut events = client.stream(None).await?;
loop {
    println!("{:?}", events.next().await?);
}
# }
```
"#
)]
#![warn(missing_docs)]

pub mod api;
pub mod token;

#[cfg(feature = "cli")]
pub mod bench;
#[cfg(feature = "sdk")]
mod breaker;
#[cfg(feature = "cli")]
pub mod capacity;
#[cfg(feature = "sdk")]
mod client;
#[cfg(feature = "sdk")]
mod error;
#[cfg(feature = "cli")]
pub mod import;
#[cfg(feature = "sdk")]
mod probe;
#[cfg(feature = "sdk")]
pub mod queue;
#[cfg(feature = "sdk")]
mod ranking;
#[cfg(feature = "sdk")]
mod regions;
#[cfg(feature = "sdk")]
mod request;
#[cfg(feature = "sdk")]
mod retry;
#[cfg(feature = "sdk")]
mod send;
#[cfg(feature = "sdk")]
mod session;
#[cfg(feature = "sdk")]
mod stream;
#[cfg(feature = "sdk")]
mod tour;

#[cfg(feature = "sdk")]
pub use client::{Ack, Client, ClientBuilder};
#[cfg(feature = "sdk")]
pub use error::{Error, Tried};
#[cfg(feature = "sdk")]
pub use queue::{OfflineQueue, QueueError};
#[cfg(feature = "sdk")]
pub use regions::Endpoint;
#[cfg(feature = "sdk")]
pub use request::{Answer, Call};
#[cfg(feature = "sdk")]
pub use retry::RetryPolicy;
#[cfg(feature = "sdk")]
pub use stream::EventStream;
