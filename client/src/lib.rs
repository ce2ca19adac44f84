//! Wire types, SDK and command line of Whimbrel.
//!
//! | feature | brings |
//! |---|---|
//! | none | [`api`], the wire types, and [`token::Claims`] |
//! | `token` | signing and verifying of tokens |
//! | `sdk` | typed calls over HTTP and WebSocket |
//! | `cli` | the `whimbrel` program |

#![warn(missing_docs)]

pub mod api;
pub mod token;
