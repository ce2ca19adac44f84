//! Times as one writes them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// No step takes longer: what is meant to last is a mistyped unit.
const TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// A length of time: `60s`, `1.5s`, `80ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(Duration);

impl Time {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// As the standard library has it.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed: Result<SignedDuration, _> = text.parse();
        let time = parsed.ok().and_then(|time| Duration::try_from(time).ok());
        let Some(time) = time else {
            return Err(format!(
                "`{text}` is no time; write one such as 60s, 1.5s or 80ms"
            ));
        };
        if time > TIME_MAX {
            return Err(format!("`{text}` is longer than an hour; give 1h at most"));
        }
        Ok(Self(time))
    }
}

/// How far a clock is moved: `+10m`, `-300ms`, `0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Offset {
    /// Positive: ahead.
    pub millis: i64,
}

impl TryFrom<String> for Offset {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed: Result<SignedDuration, _> = text.strip_prefix('+').unwrap_or(&text).parse();
        parsed
            .ok()
            .and_then(|time| i64::try_from(time.as_millis()).ok())
            .map(|millis| Self { millis })
            .ok_or_else(|| format!("`{text}` is no offset; write one such as +10m, -300ms or 0s"))
    }
}

impl From<Offset> for String {
    fn from(offset: Offset) -> Self {
        offset.to_string()
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.millis {
            millis if millis % 1_000 == 0 => write!(f, "{:+}s", millis / 1_000),
            millis => write!(f, "{millis:+}ms"),
        }
    }
}

/// Which form of an experiment is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As long as a real outage.
    Long,
    /// Under 30 s in all.
    Short,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Long => "long",
            Self::Short => "short",
        })
    }
}

/// A time for each form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaled {
    long: Time,
    short: Time,
}

impl Scaled {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.short.get() > self.long.get() {
            return Err("`short` is longer than `long`; swap them".to_owned());
        }
        Ok(())
    }
}

/// A time, or the name of one: `${hold}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Span {
    /// Itself.
    Fixed(Time),
    /// Looked up in `configuration`.
    Named(String),
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = text.strip_prefix("${").and_then(|t| t.strip_suffix('}'));
        match name {
            Some(name) => Ok(Self::Named(name.to_owned())),
            None => Time::try_from(text).map(Self::Fixed),
        }
    }
}

impl Span {
    /// How long it is in a form; `None` where nothing has its name.
    pub fn length(&self, configuration: &BTreeMap<String, Scaled>, form: Form) -> Option<Duration> {
        let time = match self {
            Self::Fixed(time) => *time,
            Self::Named(name) => {
                let scaled = configuration.get(name)?;
                match form {
                    Form::Long => scaled.long,
                    Form::Short => scaled.short,
                }
            }
        };
        Some(time.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        let time = |text: &str| Time::try_from(text.to_owned()).map(Time::get);
        assert_eq!(time("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1_500)));
        for text in ["60", "-1s", "", "${hold}"] {
            assert!(time(text).unwrap_err().contains("such as 60s"), "{text}");
        }
        assert!(time("61m").unwrap_err().contains("1h at most"));
        let offset = |text: &str| Offset::try_from(text.to_owned());
        assert_eq!(offset("+10m").unwrap().millis, 600_000);
        assert_eq!(offset("-300ms").unwrap().to_string(), "-300ms");
        assert_eq!(offset("0s").unwrap().millis, 0);
        assert!(offset("later").unwrap_err().contains("such as +10m"));
    }

    #[test]
    fn a_name_stands_for_a_time_of_each_form() {
        let scaled = Scaled {
            long: Time::from_millis(60_000),
            short: Time::from_millis(6_000),
        };
        let configuration = BTreeMap::from([("hold".to_owned(), scaled)]);
        let span = |text: &str| Span::try_from(text.to_owned()).unwrap();
        let length = |text, form| span(text).length(&configuration, form);
        assert_eq!(length("${hold}", Form::Long), Some(Duration::from_secs(60)));
        assert_eq!(length("${hold}", Form::Short), Some(Duration::from_secs(6)));
        assert_eq!(length("2s", Form::Short), Some(Duration::from_secs(2)));
        assert_eq!(length("${held}", Form::Long), None);
    }
}
