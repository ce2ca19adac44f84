//! What a run shows of each guarantee.

use std::fs::File;
use std::io::BufWriter;

use anyhow::Context as _;

use super::{Case, measure};
use crate::check::{Tail, check_without};
use crate::cluster::Cluster;
use crate::experiment::Guarantee;
use crate::history::{History, Session, Settled};
use crate::journal::{Journal, Outcome, Step, Verdict};
use crate::workload::{Load, Plan, settle};

/// Violations that are told of each guarantee.
const EXAMPLES: usize = 5;

pub(super) struct Judge<'a> {
    pub(super) case: &'a Case,
    pub(super) cluster: &'a mut Cluster,
    pub(super) plan: &'a Plan,
    pub(super) conversations: &'a [String],
    pub(super) tails: &'a [Tail],
}

impl Judge<'_> {
    /// Ends the load and judges what clients saw.
    pub(super) async fn judge(
        self,
        load: Load,
        session: Session,
        journal: &mut Journal,
    ) -> anyhow::Result<()> {
        let written = load.stop().await;
        self.cluster.converged().await?;
        let mut history = written.finish().await.context("no last messages")?;
        history.add(session);
        let digests = self.cluster.converged().await?;
        let ways = |user: &str| self.cluster.patient_ways(user).unwrap_or_default();
        let settled = settle(self.plan, self.conversations, &history, ways, &digests);
        let settled = settled
            .await
            .context("cannot read what regions show in the end")?;
        let judged = check_without(&history, &settled, self.tails);
        journal.counts = Some(judged.report.counts);
        journal.gone = judged.gone.len();
        journal.measured.writes = measure::writes(&history);
        let found = judged.report.violations.iter();
        let found: Vec<(Guarantee, String)> = found
            .filter_map(|violation| {
                let (id, told) = (violation.guarantee(), violation.to_string());
                let by = self.broken_by(id);
                let what = told.strip_prefix(id).unwrap_or(&told);
                Some((Guarantee::of(by)?, format!("{by}{what}")))
            })
            .collect();
        journal.verdicts = self.verdicts(&found, journal);
        journal.outcome = outcome(journal);
        if journal.is_violated() {
            self.keep(&history, &settled)?;
        }
        Ok(())
    }

    /// What is lost with a disk is another promise than what is lost although all disks survive.
    fn broken_by(&self, id: &'static str) -> &'static str {
        if id == "G1" && !self.tails.is_empty() {
            "G14"
        } else {
            id
        }
    }

    fn verdicts(&self, found: &[(Guarantee, String)], journal: &Journal) -> Vec<Verdict> {
        let mut all: Vec<Guarantee> = self.case.experiment.guarantees.clone();
        // What was not put to the test and is broken all the same is told, too.
        all.extend(found.iter().map(|(guarantee, _)| *guarantee));
        all.sort_unstable();
        all.dedup();
        let probes = || journal.run.iter().chain(&journal.steady_states.after);
        let verdict = |guarantee: Guarantee| {
            let mut examples: Vec<String> = found
                .iter()
                .filter(|(of, _)| *of == guarantee)
                .map(|(_, what)| what.clone())
                .collect();
            let shown: Vec<&Step> = probes()
                .filter(|step| step.activity.shows == Some(guarantee))
                .collect();
            examples.extend(
                shown
                    .iter()
                    .filter(|step| step.tolerance_met != Some(true))
                    .map(|step| {
                        let tolerated = step.activity.tolerance.as_deref().unwrap_or_default();
                        format!(
                            "{guarantee}: {}: {}, not {tolerated}",
                            step.activity.name, step.output
                        )
                    }),
            );
            let mut judged_by: Vec<String> = shown
                .iter()
                .map(|step| step.activity.name.clone())
                .collect();
            if guarantee.is_judged_by_history() || !self.tails.is_empty() {
                judged_by.insert(0, "the history of all clients".to_owned());
            }
            let violations = examples.len();
            examples.truncate(EXAMPLES);
            Verdict {
                guarantee,
                promise: guarantee.promise(),
                held: violations == 0,
                violations,
                examples,
                judged_by,
            }
        };
        all.into_iter().map(verdict).collect()
    }

    /// What clients did and saw, to be looked at.
    fn keep(&self, history: &History, settled: &Settled) -> anyhow::Result<()> {
        let Some(folder) = self.cluster.folder() else {
            return Ok(());
        };
        let file = |name: &str| {
            let path = folder.join(name);
            let file = File::create(&path);
            file.map(BufWriter::new)
                .with_context(|| format!("cannot write {}", path.display()))
        };
        history
            .write_json_lines(file("history.jsonl")?)
            .context("cannot write the history")?;
        serde_json::to_writer(file("settled.json")?, settled).context("cannot write the end")?;
        Ok(())
    }
}

/// A violation is one whether all faults did bite or not; that nothing was found counts only where
/// they did.
fn outcome(journal: &mut Journal) -> Outcome {
    let unmet = |step: &&Step| step.tolerance_met == Some(false);
    if journal.verdicts.iter().any(|verdict| !verdict.held) {
        return Outcome::Violated;
    }
    if let Some(step) = journal.steady_states.after.iter().find(unmet) {
        journal.reason = Some(format!("no steady state after it: {}", step.activity.name));
        return Outcome::Violated;
    }
    if let Some(fault) = journal.faults.iter().find(|fault| fault.bit != Some(true)) {
        let evidence = fault.evidence.join("; ");
        journal.reason = Some(format!("a fault did not bite: {}: {evidence}", fault.what));
        return Outcome::NoBite;
    }
    if journal.faults.is_empty() {
        journal.reason = Some("nothing was made bad".to_owned());
        return Outcome::NoBite;
    }
    // A probe that shows no guarantee shows whether the method did what it was meant to.
    if let Some(step) = journal.run.iter().find(unmet) {
        let (name, output) = (&step.activity.name, &step.output);
        journal.reason = Some(format!("it did not go as it should: {name}: {output}"));
        return Outcome::NoBite;
    }
    Outcome::Held
}
