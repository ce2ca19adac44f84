//! Reading an experiment's file, and what can be wrong with it.

use std::path::{Path, PathBuf};

use super::{Activity, Experiment, REGIONS, Task};

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot read {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// It is no experiment.
    #[error(
        "{}: at {at}: {reason}; `whimbrel-chaos schema` prints what an experiment may say",
        .file.display()
    )]
    Wrong {
        /// The file.
        file: PathBuf,
        /// Where in it.
        at: String,
        /// What, and what to do.
        reason: String,
    },
}

impl Experiment {
    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self, ReadError> {
        let bytes = std::fs::read(file).map_err(|error| ReadError::File(file.into(), error))?;
        Self::parse(&bytes).map_err(|(at, reason)| ReadError::Wrong {
            file: file.into(),
            at,
            reason,
        })
    }

    /// From JSON; errs with where and why.
    pub fn parse(json: &[u8]) -> Result<Self, (String, String)> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let experiment: Self = serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| (error.path().to_string(), error.inner().to_string()))?;
        reader
            .end()
            .map_err(|error| ("the end".to_owned(), error.to_string()))?;
        experiment.check()?;
        Ok(experiment)
    }

    fn check(&self) -> Result<(), (String, String)> {
        for (at, activity) in self.activities() {
            self.check_activity(activity)
                .map_err(|reason| (at, reason))?;
        }
        for (name, scaled) in &self.configuration {
            scaled
                .check()
                .map_err(|reason| (format!("configuration.{name}"), reason))?;
        }
        let load = &self.load;
        for (name, count) in [("writers", load.writers), ("listeners", load.listeners)] {
            if !(1..=100).contains(&count) {
                let reason = format!("there are {count}; 1 to 100 can be");
                return Err((format!("load.{name}"), reason));
            }
        }
        let probes = &self.steady_state_hypothesis.probes;
        if probes.is_empty() {
            return Err((
                "steady-state-hypothesis.probes".to_owned(),
                "there is none, so nothing would be judged before and after; give at least one"
                    .to_owned(),
            ));
        }
        for (nth, probe) in probes.iter().enumerate() {
            if probe.tolerance.is_none() {
                return Err((
                    format!("steady-state-hypothesis.probes[{nth}]"),
                    "a probe of the hypothesis needs a `tolerance`".to_owned(),
                ));
            }
        }
        let at = || "guarantees".to_owned();
        if self.guarantees.is_empty() {
            return Err((at(), "name at least one that is put to the test".to_owned()));
        }
        for guarantee in &self.guarantees {
            let shown = self
                .activities()
                .any(|(_, activity)| activity.shows == Some(*guarantee));
            let by_disks = guarantee.id() == "G14" && self.destroys();
            if !(guarantee.is_judged_by_history() || shown || by_disks) {
                return Err((
                    at(),
                    format!(
                        "nothing judges {guarantee} here; let a probe show it (\"shows\": \
                         \"{guarantee}\"), or leave it away"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn check_activity(&self, activity: &Activity) -> Result<(), String> {
        let regions = activity.regions();
        if let Some(region) = regions.iter().find(|name| !REGIONS.contains(name)) {
            return Err(format!(
                "there is no region `{region}`; there are {}",
                REGIONS.join(", ")
            ));
        }
        if let [one, other] = regions[..]
            && one == other
        {
            return Err(format!("`{one}` is named twice; name two regions"));
        }
        if let Task::Probe(probe) = &activity.task
            && let Some(tolerance) = &activity.tolerance
        {
            probe.check_tolerance(tolerance)?;
        }
        for span in activity.spans() {
            if let super::Span::Named(name) = span
                && !self.configuration.contains_key(name)
            {
                return Err(format!(
                    "`configuration` has no `{name}`; add it with a `long` and a `short` time"
                ));
            }
        }
        if let Some(shown) = activity.shows
            && !self.guarantees.contains(&shown)
        {
            return Err(format!("it shows {shown}; add that to `guarantees`"));
        }
        if let Task::Action(super::Action::Link { faults, .. }) = &activity.task {
            faults.check().map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
