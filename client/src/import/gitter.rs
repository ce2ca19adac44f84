//! Exports of Gitter: tab-separated, quoted as in RFC 4180, with a header row.
//!
//! The reader is stricter than most: a quote that is never closed, or is followed by anything but
//! the end of the field, makes a bad record of its line alone. A lenient reader would swallow all
//! records up to the next quote in the file without a word.

use std::borrow::Cow;

use jiff::Timestamp;

use super::{BadRecord, Record};
use crate::api::limits;

/// The header row.
pub const COLUMNS: [&str; 7] = [
    "room_id",
    "room",
    "sent_at",
    "user_id",
    "username",
    "message_id",
    "text",
];

/// The sender of messages that name none.
pub const UNKNOWN_SENDER: &str = "unknown";

/// A record does not get longer than this, in bytes: what does is an open quote.
const RECORD_BYTES_MAX: usize = 256 * 1024;

/// The records of an export, in file order.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

/// Why a row cannot be read.
enum Broken {
    OpenQuote,
    AfterQuote,
}

struct Row<'a> {
    fields: Vec<Cow<'a, [u8]>>,
    /// Where the next row starts.
    end: usize,
}

impl<'a> Records<'a> {
    /// The records of `bytes`, a whole export. Refuses one with another header row.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BadRecord> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let refused = |found: &str| BadRecord {
            line: 1,
            reason: format!(
                "this is no Gitter export: the first line must be the columns {}, separated by \
                 tabs, and is {found}",
                COLUMNS.join(" ")
            ),
        };
        let Ok(header) = row(bytes) else {
            return Err(refused("broken"));
        };
        if !header
            .fields
            .iter()
            .map(AsRef::as_ref)
            .eq(COLUMNS.map(str::as_bytes))
        {
            let found = header.fields.join(&b' ');
            let found: String = String::from_utf8_lossy(&found).chars().take(80).collect();
            return Err(refused(&format!("{found:?}")));
        }
        let mut records = Self {
            bytes,
            at: 0,
            line: 1,
        };
        records.advance(header.end);
        Ok(records)
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.bytes[self.at..self.at + bytes];
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.at += bytes;
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        // Empty lines are no records.
        while let Some(b'\n') | Some(b'\r') = self.bytes.get(self.at) {
            self.advance(1);
        }
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return None;
        }
        let line = self.line;
        let bad = |reason: &str| BadRecord {
            line,
            reason: reason.to_owned(),
        };
        match row(rest) {
            Ok(row) => {
                self.advance(row.end);
                Some(record(line, &row.fields).map_err(|reason| bad(&reason)))
            }
            Err(broken) => {
                // Only this line is lost: the next one may be a good record.
                let end = rest.iter().position(|&byte| byte == b'\n');
                self.advance(end.map_or(rest.len(), |end| end + 1));
                Some(Err(bad(match broken {
                    Broken::OpenQuote => "a quote is opened and never closed",
                    Broken::AfterQuote => "a closing quote is followed by more text",
                })))
            }
        }
    }
}

/// The row with which `bytes` starts.
fn row(bytes: &[u8]) -> Result<Row<'_>, Broken> {
    let mut fields = Vec::with_capacity(COLUMNS.len());
    let mut at = 0;
    loop {
        let (field, end) = if bytes.get(at) == Some(&b'"') {
            quoted(bytes, at + 1)?
        } else {
            let rest = &bytes[at..];
            let end = rest.iter().position(|byte| matches!(byte, b'\t' | b'\n'));
            let end = at + end.unwrap_or(rest.len());
            let field = &bytes[at..end];
            let field = match bytes.get(end) {
                Some(b'\t') => field,
                _ => field.strip_suffix(b"\r").unwrap_or(field),
            };
            (Cow::Borrowed(field), end)
        };
        fields.push(field);
        at = match bytes[end..] {
            [b'\t', ..] => end + 1,
            [] => return Ok(Row { fields, end }),
            [b'\n', ..] => {
                return Ok(Row {
                    fields,
                    end: end + 1,
                });
            }
            [b'\r', b'\n', ..] => {
                return Ok(Row {
                    fields,
                    end: end + 2,
                });
            }
            _ => return Err(Broken::AfterQuote),
        };
    }
}

/// The quoted field whose text starts at `start`, and where its closing quote ends.
fn quoted(bytes: &[u8], start: usize) -> Result<(Cow<'_, [u8]>, usize), Broken> {
    let limit = bytes.len().min(start + RECORD_BYTES_MAX);
    let mut text = Cow::Borrowed(&bytes[..0]);
    let mut from = start;
    loop {
        let quote = bytes[from..limit].iter().position(|&byte| byte == b'"');
        let quote = from + quote.ok_or(Broken::OpenQuote)?;
        let doubled = bytes.get(quote + 1) == Some(&b'"');
        let piece = &bytes[from..quote + usize::from(doubled)];
        if text.is_empty() {
            text = Cow::Borrowed(piece);
        } else {
            text.to_mut().extend_from_slice(piece);
        }
        if !doubled {
            return Ok((text, quote + 1));
        }
        from = quote + 2;
    }
}

fn record(line: u64, fields: &[Cow<'_, [u8]>]) -> Result<Record, String> {
    let [room_id, room, sent_at, _user_id, username, message_id, text] = fields else {
        let (found, wanted) = (fields.len(), COLUMNS.len());
        return Err(format!("it has {found} columns and should have {wanted}"));
    };
    let utf8 = |name: &str, field: &[u8]| match std::str::from_utf8(field) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(format!("`{name}` is not UTF-8")),
    };
    let id = |name: &str, field: &[u8]| {
        let max = limits::IDEMPOTENCY_KEY_BYTES_MAX - "gitter::join".len();
        if (1..=max).contains(&field.len()) && field.iter().all(u8::is_ascii_graphic) {
            utf8(name, field)
        } else {
            Err(format!(
                "`{name}` must be 1 to {max} printable ASCII characters"
            ))
        }
    };
    let room = utf8("room", room)?;
    if room.len() > limits::TITLE_BYTES_MAX {
        return Err(format!(
            "`room` has more than {} bytes",
            limits::TITLE_BYTES_MAX
        ));
    }
    let sent_at = utf8("sent_at", sent_at)?;
    let time: Timestamp = sent_at.parse().map_err(|_| {
        let shown: String = sent_at.chars().take(40).collect();
        format!("`sent_at` is no RFC 3339 time: {shown:?}")
    })?;
    let sender = utf8("username", username)?;
    if sender.len() > limits::USER_BYTES_MAX {
        return Err(format!(
            "`username` has more than {} bytes",
            limits::USER_BYTES_MAX
        ));
    }
    if text.len() > limits::TEXT_BYTES_MAX {
        let (found, max) = (text.len(), limits::TEXT_BYTES_MAX);
        return Err(format!("`text` has {found} bytes, {max} are allowed"));
    }
    Ok(Record {
        line,
        room_id: id("room_id", room_id)?,
        room,
        sent_at: format!("{time:.3}"),
        sender: if sender.is_empty() {
            UNKNOWN_SENDER.to_owned()
        } else {
            sender
        },
        message_id: id("message_id", message_id)?,
        text: utf8("text", text)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "room_id\troom\tsent_at\tuser_id\tusername\tmessage_id\ttext\n";

    fn read(rows: &str) -> Vec<Result<Record, BadRecord>> {
        Records::new(format!("{HEADER}{rows}").as_bytes())
            .unwrap()
            .collect()
    }

    fn line(id: &str, text: &str) -> String {
        format!("r1\tBirds\t2014-11-30T23:35:14.775Z\tu1\tana\t{id}\t{text}\n")
    }

    /// Texts of the good records and lines of the bad ones.
    fn check(rows: &str, texts: &[&str], bad: &[u64]) {
        let all = read(rows);
        let good: Vec<_> = all.iter().flatten().map(|r| r.text.as_str()).collect();
        assert_eq!(good, texts, "{rows:?}");
        let lines: Vec<_> = all
            .iter()
            .filter_map(|r| r.as_ref().err())
            .map(|b| b.line)
            .collect();
        assert_eq!(lines, bad, "{rows:?}");
    }

    #[test]
    fn a_plain_record() {
        assert_eq!(
            read(&line("m1", "hi")),
            [Ok(Record {
                line: 2,
                room_id: "r1".to_owned(),
                room: "Birds".to_owned(),
                sent_at: "2014-11-30T23:35:14.775Z".to_owned(),
                sender: "ana".to_owned(),
                message_id: "m1".to_owned(),
                text: "hi".to_owned(),
            })]
        );
    }

    #[test]
    fn quotes_lines_and_ends() {
        check(
            &line("m", "\"a\tb\nc \"\"d\"\" \r\n\n e\""),
            &["a\tb\nc \"d\" \r\n\n e"],
            &[],
        );
        check(&line("m", "\"\""), &[""], &[]);
        check(&line("m", "\"\"\"\"\"\""), &["\"\""], &[]);
        check(&line("m", ""), &[""], &[]);
        check(&line("m", "say \"hi\""), &["say \"hi\""], &[]);
        check(&line("m", "a").replace('\n', "\r\n"), &["a"], &[]);
        check(line("m", "a").trim_end(), &["a"], &[]);
        check(line("m", "\"a\"").trim_end(), &["a"], &[]);
        check(
            &format!("\n{}\r\n\n{}", line("m", "a"), line("n", "b")),
            &["a", "b"],
            &[],
        );
        check("", &[], &[]);
    }

    #[test]
    fn lines_are_those_on_which_records_start() {
        let rows = [
            line("m1", "\"one\ntwo\nthree\""),
            "too\tfew\n".to_owned(),
            line("m2", "good"),
            line("m3", "x").replace("2014-", "14-"),
        ];
        check(&rows.concat(), &["one\ntwo\nthree", "good"], &[5, 7]);
        assert_eq!(read(&rows.concat())[2].as_ref().unwrap().line, 6);
    }

    #[test]
    fn a_broken_quote_costs_its_line_alone() {
        let rows = [
            line("m1", "\"open"),
            line("m2", "good"),
            line("m3", "\"fine\""),
        ];
        // The quote is closed by the next one in the file, and text follows.
        check(&rows.concat(), &["good", "fine"], &[2]);
        check(&rows[..2].concat(), &["good"], &[2]);
        check(
            &format!("{}{}", line("m1", "\"a\"b"), line("m2", "c")),
            &["c"],
            &[2],
        );
        // The rest of a broken record of several lines is no record either.
        check(
            &format!("{}{}", line("m1", "\"a\nb\"c"), line("m2", "d")),
            &["d"],
            &[2, 3],
        );
    }

    #[test]
    fn what_cannot_be_imported() {
        let long = "x".repeat(limits::TEXT_BYTES_MAX);
        check(&line("m", &long), &[&long], &[]);
        check(&line("m", &format!("{long}x")), &[], &[2]);
        check(&line("", "no id"), &[], &[2]);
        check(&line("grün", "id"), &[], &[2]);
        check(&line("m", "more\tcolumns"), &[], &[2]);
        check(&line("m", "x").replace("ana", &"a".repeat(129)), &[], &[2]);
        check(
            &line("m", "x").replace("Birds", &"a".repeat(257)),
            &[],
            &[2],
        );
        let mut bytes = format!("{HEADER}{}", line("m", "x")).into_bytes();
        let at = bytes.len() - 2;
        bytes[at] = 0xff;
        assert!(Records::new(&bytes).unwrap().next().unwrap().is_err());
    }

    #[test]
    fn senders_and_times() {
        let one = |row: &str| read(row).remove(0).unwrap();
        assert_eq!(
            one(&line("m", "x").replace("ana", "")).sender,
            UNKNOWN_SENDER
        );
        let local = line("m", "x").replace("23:35:14.775Z", "23:35:14+01:00");
        assert_eq!(one(&local).sent_at, "2014-11-30T22:35:14.000Z");
    }

    #[test]
    fn another_header_is_refused() {
        for bad in ["", "a\tb\n", "\"open\n"] {
            let error = Records::new(bad.as_bytes()).unwrap_err();
            assert!(error.reason.contains("room_id room sent_at"), "{error:?}");
        }
        assert!(Records::new(format!("\u{feff}{HEADER}").as_bytes()).is_ok());
    }

    #[test]
    fn the_real_export() {
        let path = std::env::var_os("WHIMBREL_GITTER_TSV");
        let Some(bytes) = path.and_then(|path| std::fs::read(path).ok()) else {
            println!("skipped: the_real_export (set WHIMBREL_GITTER_TSV to a readable export)");
            return;
        };
        let mut records = Records::new(&bytes).unwrap();
        let all: Vec<_> = records.by_ref().map(Result::unwrap).collect();
        let count = |part: fn(&Record) -> &str| {
            all.iter()
                .map(part)
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        assert_eq!(all.len(), 59_000);
        assert_eq!(records.line - 1, 83_067);
        assert_eq!(count(|r| &r.room_id), 79);
        assert_eq!(count(|r| &r.sender), 3_409);
        assert_eq!(count(|r| &r.message_id), 58_549);
        let empty = all.iter().filter(|record| record.text.is_empty());
        let empty: std::collections::BTreeSet<_> = empty.map(|record| &record.message_id).collect();
        assert_eq!(empty.len(), 357);
    }
}
