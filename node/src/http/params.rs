//! Parameters that several calls share, as the OpenAPI document shows them.

use serde::Deserialize;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{Ref, Required};
use utoipa::{IntoParams, ToSchema};
use whimbrel_client::api::openapi::{ConversationId, Cursors, Emoji, Key, MessageId, User};

use super::request::{After, IdempotencyKey};

/// Path of what stands in a conversation.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct InConversation {
    /// The conversation.
    #[param(value_type = ConversationId)]
    pub conversation: String,
}

/// Path of a member.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfMember {
    /// The conversation.
    #[param(value_type = ConversationId)]
    pub conversation: String,
    /// The member.
    #[param(value_type = User)]
    pub user: String,
}

/// Path of a message.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfMessage {
    /// The conversation.
    #[param(value_type = ConversationId)]
    pub conversation: String,
    /// The message.
    #[param(value_type = MessageId)]
    pub message: String,
}

/// Path of one's own reaction.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfReaction {
    /// The conversation.
    #[param(value_type = ConversationId)]
    pub conversation: String,
    /// The message.
    #[param(value_type = MessageId)]
    pub message: String,
    /// The reaction.
    #[param(value_type = Emoji)]
    pub emoji: String,
}

impl IntoParams for After {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "The answer includes what these cursors cover: the call waits for it, for \
                           at most two seconds. At most 16 KiB together.";
        vec![header::<Cursors>("Whimbrel-After", description)]
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "The same key and the same request give the same ids, whether it was \
                           done before or not. Without one, a retry is a new request.";
        vec![header::<Key>("Idempotency-Key", description)]
    }
}

/// What every call takes that takes a token.
pub(super) fn act_as() -> Parameter {
    let description = "The user for whom the bearer of a token of scope `service` acts.";
    header::<User>("Whimbrel-Act-As", description)
}

fn header<T: ToSchema>(name: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(Ref::from_schema_name(T::name())))
        .build()
}
