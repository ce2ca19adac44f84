//! Standard output: lines for people, or JSON.

use std::borrow::Cow;
use std::io::{self, BufWriter, Stdout, Write as _};

use serde::Serialize;
use serde_json::Value;
use whimbrel_client::Answer;

/// Standard output. Errors of writing are returned: a closed pipe must end the program quietly.
pub(crate) struct Out {
    writer: BufWriter<Stdout>,
    /// `--json` was given.
    pub(crate) json: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            writer: BufWriter::new(io::stdout()),
            json,
        }
    }

    /// A line for people, or several.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.writer, "{}", plain(line))
    }

    /// One line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, value)?;
        self.writer.write_all(b"\n")
    }

    /// The answer to a write: what was answered, its cursor, whether it was a replay, and the id of
    /// the request.
    pub(crate) fn json_written<T: Serialize>(&mut self, answer: &Answer<T>) -> io::Result<()> {
        let mut all = match serde_json::to_value(&answer.value)? {
            Value::Object(all) => all,
            _ => serde_json::Map::new(),
        };
        // A conversation or a marker has a cursor of its own.
        all.entry("cursor")
            .or_insert(serde_json::json!(answer.cursor));
        all.insert("replayed".to_owned(), answer.replayed.into());
        if let Some(request) = &answer.request {
            all.insert("request".to_owned(), request.clone().into());
        }
        self.json(&all)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A remark on standard error, which may be closed: then there is nobody to tell.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{}", plain(line));
}

/// Without what would steer a terminal: texts come from other people.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(steers) {
        text.replace(steers, "\u{fffd}").into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_steers_the_terminal() {
        assert_eq!(plain("a\n\tb"), "a\n\tb");
        assert_eq!(
            plain("\x1b[2Jgone\r\u{9b}"),
            "\u{fffd}[2Jgone\u{fffd}\u{fffd}"
        );
    }
}
