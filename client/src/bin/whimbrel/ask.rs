//! Calls, and remarks on how they were answered.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;
use whimbrel_client::{Answer, Call, Error};

use crate::args::Global;
use crate::output::note;

/// Sets what `--after` asks for.
pub(crate) fn reading<T>(global: &Global, call: Call<T>) -> Call<T> {
    match &global.after {
        Some(cursor) => call.after(cursor),
        None => call,
    }
}

/// Waits for the answer. Whoever did not give it, and what it lacks, is said on standard error.
pub(crate) async fn ask<T: DeserializeOwned + Send + 'static>(
    call: Call<T>,
) -> Result<Answer<T>, Error> {
    let answer = call.await?;
    let region = answer.region.as_deref().unwrap_or("another region");
    for tried in &answer.tried {
        let (name, reason) = (tried.name(), &tried.reason);
        note_once(&format!("{name} could not do it: {reason}; {region} did"));
    }
    if !answer.stale.is_empty() {
        let missing = answer.stale.join(", ");
        note_once(&format!(
            "stale: {region} lacks what {missing} has and cannot pass on now"
        ));
    }
    Ok(answer)
}

/// A write that failed, and may have been taken all the same.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Unsure {
    /// By which it can be asked for again, and is not doubled.
    pub(crate) key: String,
    #[source]
    pub(crate) error: Error,
}

impl Unsure {
    /// Also where a region says 503: of a commit whose outcome the store does not tell it knows no more.
    pub(crate) fn of(error: Error, key: String) -> anyhow::Error {
        if error.is_transient() {
            Self { key, error }.into()
        } else {
            error.into()
        }
    }
}

/// A command may make many calls; each thing is said once.
fn note_once(line: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(line.to_owned()) {
        note(line);
    }
}
