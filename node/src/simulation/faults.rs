//! What goes wrong, and when.

use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::region::REGIONS;
use super::world::{Step, What, World};
use crate::store::embedded::Moment;

/// Clocks are wrong by up to so much.
const SKEW_MAX_MS: i64 = 600_000;

impl World {
    pub(super) fn crash(&mut self, region: u16) -> Step {
        self.counts.crashes += 1;
        let keep = self.rng.random_bool(0.5);
        self.note(format_args!(
            "r{region} crashes; what was not synced is {}",
            if keep { "there" } else { "gone" }
        ));
        self.region(region).crash(keep);
        self.down(region)
    }

    /// Its links break, and it starts again later.
    fn down(&mut self, region: u16) -> Step {
        for link in self.network.links_of(region) {
            self.break_link(link)?;
        }
        let after = self.ms(50..3_000);
        self.later(region, after, None, What::Start);
        Ok(())
    }

    pub(super) async fn fault(&mut self) -> Step {
        if !self.is_rough {
            return Ok(());
        }
        let next = self.ms(100..1_200);
        self.later(1, next, None, What::Fault);
        let region = self.rng.random_range(1..=REGIONS);
        let others: Vec<u16> = (1..=REGIONS).filter(|other| *other != region).collect();
        let other = *others.choose(&mut self.rng).expect("there are others");
        match self.rng.random_range(0..100) {
            0..20 => {
                if self.regions[&region].running.is_some() {
                    return self.crash(region);
                }
            }
            20..40 => {
                let moments = [Moment::BeforeWrite, Moment::BeforeSync, Moment::AfterSync];
                let moment = *moments.choose(&mut self.rng).expect("there are three");
                self.note(format_args!("r{region} will lose its power: {moment:?}"));
                self.regions[&region].disk.fail_at_next_write(Some(moment));
            }
            40..60 => {
                self.counts.cuts += 1;
                let both = self.rng.random_bool(0.5);
                self.cut(region, other);
                if both {
                    self.cut(other, region);
                }
            }
            60..80 => {
                let delay = self.ms(1..400);
                let jitter = self.ms(0..200);
                let (loss, double) = (
                    self.rng.random_range(0.0..0.2),
                    self.rng.random_range(0.0..0.1),
                );
                self.note(format_args!("r{region} -> r{other}: {delay:?} + {jitter:?}, {loss:.2} lost, {double:.2} doubled"));
                let path = self.network.paths.get_mut(&(region, other));
                let path = path.expect("there is one between any two");
                (path.delay, path.jitter, path.loss, path.double) = (delay, jitter, loss, double);
            }
            80..96 => {
                self.counts.steps += 1;
                let skew = self.rng.random_range(-SKEW_MAX_MS..=SKEW_MAX_MS);
                self.note(format_args!("the clock of r{region} is wrong by {skew} ms"));
                self.region(region).skew_ms = skew;
            }
            _ => return self.destroy(region).await,
        }
        Ok(())
    }

    fn cut(&mut self, from: u16, to: u16) {
        self.note(format_args!("r{from} -> r{to} is cut"));
        if let Some(path) = self.network.paths.get_mut(&(from, to)) {
            path.is_up = false;
        }
        let after = self.ms(200..5_000);
        self.later(from, after, None, What::Mend(to));
    }

    /// A region loses its disk while all others run: what nobody else has is lost with it.
    async fn destroy(&mut self, region: u16) -> Step {
        if self.regions.values().any(|region| region.running.is_none()) {
            return Ok(());
        }
        self.note(format_args!("the disk of r{region} is destroyed"));
        self.note_losses(region).await?;
        self.is_torn |= !self.all_others_show(region).await;
        self.counts.destroyed += 1;
        self.lose_disk(region)
    }

    /// Whether no other region is amid a snapshot.
    async fn all_others_show(&self, region: u16) -> bool {
        for (id, other) in &self.regions {
            if let Some(running) = &other.running
                && *id != region
                && !running.is_showing().await
            {
                return false;
            }
        }
        true
    }

    pub(super) fn lose_disk(&mut self, region: u16) -> Step {
        self.region(region).destroy();
        self.forget_late(region);
        self.down(region)
    }
}
