//! Since when each peer is linked or not, and why: for operators, and for the log when it changes.

use std::collections::BTreeMap;

use whimbrel_replication::id::RegionId;

use super::SILENT;

/// The links of one peer.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pulling: bool,
    serving: bool,
    /// Since when that is so, Unix milliseconds; 0: nothing was said of it yet.
    pub(super) since_unix_ms: i64,
    /// When it was last linked both ways, Unix milliseconds, if it is not now.
    lost_unix_ms: Option<i64>,
    /// Why a link of it went down last.
    pub(super) last_down: Option<String>,
}

/// The links of all peers.
#[derive(Debug, Default)]
pub(super) struct Standings(BTreeMap<RegionId, Standing>);

impl Standings {
    /// A link of a peer went down.
    pub(super) fn lost(&mut self, peer: RegionId, reason: String) {
        self.0.entry(peer).or_default().last_down = Some(reason);
    }

    /// Do we pull from a peer, does it pull from us, and was nothing heard of it for [`SILENT`]? What
    /// has changed is logged.
    pub(super) fn note(
        &mut self,
        peer: RegionId,
        name: &str,
        (pulling, serving, silent): (bool, bool, bool),
        now_unix_ms: i64,
    ) -> &Standing {
        let standing = self.0.entry(peer).or_default();
        let is_known = standing.since_unix_ms != 0;
        if is_known && (standing.pulling, standing.serving) == (pulling, serving) {
            return standing;
        }
        if (standing.pulling && !pulling) || (standing.serving && !serving) {
            if silent {
                standing.last_down = Some(format!("nothing was heard for {} s", SILENT.as_secs()));
            }
            let reason = standing.last_down.as_deref().unwrap_or("not known");
            tracing::warn!(
                peer = name,
                pulling,
                serving,
                reason,
                "a link to a peer is lost"
            );
            standing.lost_unix_ms.get_or_insert(now_unix_ms);
        } else if pulling && serving {
            let lost = standing.lost_unix_ms.take();
            let lost_for_s = lost.map(|lost| (now_unix_ms - lost) / 1_000);
            tracing::info!(peer = name, lost_for_s, "a peer is linked");
        }
        standing.since_unix_ms = now_unix_ms;
        (standing.pulling, standing.serving) = (pulling, serving);
        standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_since_when_and_why() {
        let mut all = Standings::default();
        let peer = RegionId(2);
        let note = |all: &mut Standings, up, silent, at| {
            all.note(peer, "us", (up, up, silent), at).since_unix_ms
        };
        assert_eq!(note(&mut all, false, true, 10), 10);
        assert_eq!(note(&mut all, true, false, 20), 20);
        assert_eq!(note(&mut all, true, false, 30), 20);
        all.lost(peer, "closed by peer".to_owned());
        assert_eq!(note(&mut all, false, false, 40), 40);
        let standing = all.note(peer, "us", (false, false, true), 50);
        assert_eq!(standing.since_unix_ms, 40);
        assert_eq!(standing.last_down.as_deref(), Some("closed by peer"));
        assert_eq!(note(&mut all, true, false, 60), 60);
        let standing = all.note(peer, "us", (true, false, true), 70);
        assert_eq!(standing.since_unix_ms, 70);
        assert_eq!(
            standing.last_down.as_deref(),
            Some("nothing was heard for 3 s")
        );
    }
}
