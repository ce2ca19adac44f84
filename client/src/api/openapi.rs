//! Schemas for the OpenAPI document: the forms of ids, names, times and texts, which are plain
//! strings in the wire types, and events told apart by their `type`.

use std::borrow::Cow;

use serde_json::Value;
use utoipa::openapi::schema::{
    Discriminator, KnownFormat, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type,
};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::{Event, EventKind, limits};

/// No control characters.
const NAME: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

/// Declares forms: types that stand for a schema and have no values.
macro_rules! forms {
    ($($(#[doc = $doc:literal])+ $name:ident = $schema:expr, $example:expr;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let schema: ObjectBuilder = $schema;
                let description = concat!($($doc, "\n",)+).trim().replace("\n ", "\n");
                schema.description(Some(description)).examples([Value::from($example)]).into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )+

    /// All forms with their names, for the document's components.
    pub fn forms() -> Vec<(String, RefOr<Schema>)> {
        vec![$((stringify!($name).to_owned(), $name::schema())),+]
    }};
}

forms! {
    /// Id of a conversation. Opaque.
    ConversationId = text(r"^[0-9a-v]{25}[048cgkos]$", 26, 26), "e15rkinhssrhkna30cg1qq0mq4";
    /// Id of a message. Opaque.
    MessageId = text(r"^[0-9a-v]{25}[048cgkos]$", 26, 26), "0vccstgq8edbmaueb4lroncph8";
    /// Where a message stands in its conversation. Positions order as their bytes do.
    Position = text(r"^[0-9a-v]{22}[08go]$", 23, 23), "036m4s2ho30000004000380";
    /// The state of a message's text. Opaque.
    Revision = text(r"^(original|([0-9a-v]{12}[02468acegikmoqsu])+)$", 8, 13_000), "original";
    /// Everything up to here, in every region. Opaque.
    Cursor = text(r"^[A-Za-z0-9_-]+$", 4, 8192), "AQAA";
    /// One or more cursors, separated by commas.
    Cursors = any_length(r"^[A-Za-z0-9_-]+(,[A-Za-z0-9_-]+)*$"), "AQAA";
    /// Where a stream stands; resumes in every region. Opaque.
    Token = text(r"^[A-Za-z0-9_-]+$", 4, 8192), "AQAA";
    /// Value of `page` for the following page. Opaque.
    PageToken = text(r"^[0-9a-v]{48}$", 48, 48), "036m4s2ho30000004000380e15rkinhssrhkna30cg1qq0mq";
    /// Name of a user: at most 128 bytes of UTF-8, no control characters.
    User = text(NAME, 1, limits::USER_BYTES_MAX), "ada";
    /// Name of a region.
    RegionName = text(r"^[a-z0-9-]+$", 1, 32), "eu";
    /// The id of a request: a trace id of W3C Trace Context.
    RequestId = text(r"^[0-9a-f]{32}$", 32, 32), "4bf92f3577b34da6a3ce929d0e0e4736";
    /// A time: RFC 3339 in UTC with milliseconds.
    Time = text(r"^-?[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$", 24, 27)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))), "2026-11-23T09:13:17.042Z";
    /// Text of a message: at most `limits.text_bytes` of the config in UTF-8, by default 16 KiB.
    Text = any_text(limits::TEXT_BYTES_MAX), "Hello from Europe, @bob";
    /// A title or topic: at most `limits.title_bytes` of the config in UTF-8, by default 256; no
    /// NUL.
    Title = any_text(limits::TITLE_BYTES_MAX).pattern(Some(r"^[^\u0000]*$")), "Birds";
    /// An emoji, or another short text without spaces and control characters: at most
    /// `limits.emoji_bytes` of the config in UTF-8, by default 32.
    Emoji = text(r"^[^\s\u0000-\u001f\u007f-\u009f]+$", 1, limits::EMOJI_BYTES_MAX), "👍";
    /// An idempotency key: printable ASCII.
    Key = text(r"^[ -~]+$", 1, limits::IDEMPOTENCY_KEY_BYTES_MAX), "k-1";
    /// How many items a page has at most.
    PageLimit = whole(1, limits::PAGE_ITEMS_MAX.into())
        .default(Some(limits::PAGE_ITEMS_DEFAULT.into())), 20;
    /// How long to wait, in milliseconds.
    WaitMs = whole(0, limits::SYNC_WAIT_MS_MAX).default(Some(0.into())), 1000;
}

fn any_length(pattern: &str) -> ObjectBuilder {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    schema.pattern(Some(pattern))
}

fn any_text(length_max: usize) -> ObjectBuilder {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    schema.max_length(Some(length_max))
}

fn text(pattern: &str, length_min: usize, length_max: usize) -> ObjectBuilder {
    let schema = any_length(pattern).min_length(Some(length_min));
    schema.max_length(Some(length_max))
}

fn whole(min: u64, max: u64) -> ObjectBuilder {
    let schema = ObjectBuilder::new().schema_type(Type::Integer);
    schema.minimum(Some(min)).maximum(Some(max))
}

/// Each kind of event as a schema of its own, by the value of its `type`.
fn events() -> Vec<(String, Object)> {
    let RefOr::T(Schema::OneOf(kinds)) = EventKind::schema() else {
        return Vec::new();
    };
    let kinds = kinds.items.into_iter().filter_map(|kind| {
        let RefOr::T(Schema::Object(mut kind)) = kind else {
            return None;
        };
        let name = type_of(&kind).filter(|name| name != "Unknown")?;
        let mut common = vec![("token", Token::name())];
        if !matches!(&*name, "gap" | "behind") {
            common.push(("conversation", ConversationId::name()));
        }
        if !matches!(&*name, "gap" | "behind" | "typing") {
            common.push(("cursor", Cursor::name()));
        }
        for (field, form) in common {
            let form = Ref::from_schema_name(form);
            kind.properties.insert(field.to_owned(), form.into());
            kind.required.push(field.to_owned());
        }
        Some((name, kind))
    });
    kinds.collect()
}

/// The only value that a kind's `type` can have.
fn type_of(kind: &Object) -> Option<String> {
    let Some(RefOr::T(Schema::Object(tag))) = kind.properties.get("type") else {
        return None;
    };
    let value = tag.enum_values.as_ref()?.first()?;
    value.as_str().map(str::to_owned)
}

/// `message.posted` -> `MessagePostedEvent`.
fn event_name(kind: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    let words: String = kind.split('.').map(word).collect();
    words + "Event"
}

impl PartialSchema for Event {
    fn schema() -> RefOr<Schema> {
        let mut discriminator = Discriminator::new("type");
        let mut one_of = OneOfBuilder::new().description(Some(
            "Something that happened in one of the user's conversations, or to the stream itself. \
             Later versions may add types: pass over those that you don't know.",
        ));
        for (kind, _) in events() {
            let kind_ref = Ref::from_schema_name(event_name(&kind));
            let location = kind_ref.ref_location.clone();
            discriminator.mapping.insert(kind, location);
            one_of = one_of.item(kind_ref);
        }
        one_of.discriminator(Some(discriminator)).into()
    }
}

impl ToSchema for Event {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Event")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        let kinds = events().into_iter();
        schemas.extend(kinds.map(|(kind, schema)| (event_name(&kind), schema.into())));
        EventKind::schemas(schemas);
    }
}
