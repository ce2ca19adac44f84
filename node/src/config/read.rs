//! Reads single values, and goes on after those that are wrong.

use figment::Figment;
use figment::value::magic::RelativePathBuf;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::Issue;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Issues(Vec<Issue>);

impl Issues {
    pub(super) fn add(
        &mut self,
        key: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Issue {
            key: key.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    pub(super) fn any_in(&self, section: &str) -> bool {
        self.0.iter().any(|issue| issue.key.starts_with(section))
    }

    pub(super) fn into_inner(self) -> Vec<Issue> {
        self.0
    }
}

/// One table of the config. Every key must be taken before [`Section::end`].
pub(super) struct Section<'a> {
    figment: &'a Figment,
    path: String,
    dict: Dict,
    taken: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn root(figment: &'a Figment, dict: Dict) -> Self {
        Self {
            figment,
            path: String::new(),
            dict,
            taken: Vec::new(),
        }
    }

    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Whether a key is given.
    pub(super) fn has(&self, key: &str) -> bool {
        self.dict.contains_key(key)
    }

    fn take_value(&mut self, key: &'static str) -> Option<Value> {
        self.taken.push(key);
        self.dict.remove(key)
    }

    /// A table inside; an empty one if it is absent.
    pub(super) fn section(&mut self, key: &'static str, issues: &mut Issues) -> Section<'a> {
        let path = self.key(key);
        let value = self.take_value(key);
        Self::table(self.figment, path, value, issues)
    }

    /// A list of tables inside.
    pub(super) fn sections(&mut self, key: &'static str, issues: &mut Issues) -> Vec<Section<'a>> {
        let path = self.key(key);
        match self.take_value(key) {
            None => Vec::new(),
            Some(Value::Array(_, values)) => values
                .into_iter()
                .enumerate()
                .map(|(i, value)| {
                    Self::table(self.figment, format!("{path}[{i}]"), Some(value), issues)
                })
                .collect(),
            Some(_) => {
                issues.add(
                    path.clone(),
                    "not a list of tables",
                    format!("write [[{path}]]"),
                );
                Vec::new()
            }
        }
    }

    fn table(
        figment: &'a Figment,
        path: String,
        value: Option<Value>,
        issues: &mut Issues,
    ) -> Section<'a> {
        let dict = match value {
            None => Dict::new(),
            Some(Value::Dict(_, dict)) => dict,
            Some(_) => {
                issues.add(path.clone(), "not a table", format!("write [{path}]"));
                Dict::new()
            }
        };
        Section {
            figment,
            path,
            dict,
            taken: Vec::new(),
        }
    }

    /// A value that may be absent.
    pub(super) fn optional<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        remedy: &str,
        issues: &mut Issues,
    ) -> Option<T> {
        let path = self.key(key);
        match self.take_value(key)?.deserialize() {
            Ok(value) => Some(value),
            Err(error) => {
                issues.add(path, error.kind.to_string(), remedy);
                None
            }
        }
    }

    /// A value that must be there.
    pub(super) fn required<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        remedy: &str,
        issues: &mut Issues,
    ) -> Option<T> {
        if !self.dict.contains_key(key) {
            self.taken.push(key);
            issues.add(self.key(key), "missing", remedy);
            return None;
        }
        self.optional(key, remedy, issues)
    }

    /// A number with a default, within a range.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        issues: &mut Issues,
    ) -> u64 {
        let (low, high) = range.clone().into_inner();
        let remedy = format!("give a number in {low}..={high}; the default is {default}");
        let Some(value) = self.optional::<i64>(key, &remedy, issues) else {
            return default;
        };
        match u64::try_from(value) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                issues.add(
                    self.key(key),
                    format!("{value} is outside {low}..={high}"),
                    remedy,
                );
                default
            }
        }
    }

    /// Paths, relative to the file that names them. A single one counts as a list.
    pub(super) fn paths(
        &mut self,
        key: &'static str,
        remedy: &str,
        issues: &mut Issues,
    ) -> Vec<PathBuf> {
        let path = self.key(key);
        let read = match self.take_value(key) {
            None => {
                issues.add(path, "missing", remedy);
                return Vec::new();
            }
            Some(Value::Array(..)) => self.figment.extract_inner::<Vec<RelativePathBuf>>(&path),
            Some(_) => self.figment.extract_inner(&path).map(|one| vec![one]),
        };
        match read {
            Ok(paths) => paths.iter().map(RelativePathBuf::relative).collect(),
            Err(error) => {
                issues.add(path, error.kind.to_string(), remedy);
                Vec::new()
            }
        }
    }

    /// Reports keys that nobody took.
    pub(super) fn end(self, issues: &mut Issues) {
        for key in self.dict.keys() {
            issues.add(
                self.key(key),
                "unknown key",
                format!("remove it, or use one of: {}", self.taken.join(", ")),
            );
        }
    }
}
