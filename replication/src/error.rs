//! What can be wrong with bytes or text that came from outside.

/// A value that does not parse. The message names what was expected; callers add the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The text form of an id, position or revision is malformed.
    #[error("not a valid {0}")]
    Text(&'static str),
    /// A required field is missing from a protobuf message.
    #[error("the field {0} is missing")]
    Missing(&'static str),
    /// A field has the wrong length or a value outside its range.
    #[error("the field {0} is out of range")]
    Range(&'static str),
    /// The bytes are not protobuf.
    #[error("malformed protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// It was damaged since it was written.
    #[error("the checksum does not fit: the bytes were damaged")]
    Checksum,
    /// The format is newer than this program.
    #[error("format {0} is newer than this program")]
    Format(u32),
}
