//! Figures for people.

use whimbrel_client::bench::{
    Accepted, CaughtUp, Cpu, Edited, Idled, Paged, Percentiles, TextsUsed, Visibility,
};

pub(super) fn accept(it: &Accepted) -> Vec<String> {
    let mut lines = posted("accept", it);
    lines.extend(refusals(it));
    lines
}

pub(super) fn visibility(it: &Visibility) -> Vec<String> {
    let mut lines = posted("visibility", &it.accepted);
    for region in &it.regions {
        lines.push(row(
            &format!("seen in {}", region.region),
            region.latency.as_ref(),
        ));
    }
    for region in &it.regions {
        let mut line = format!("{}: {} seen", region.region, region.seen);
        let wrong = [
            (region.missing, "missing"),
            (region.seen_twice, "seen twice"),
            (region.unacknowledged, "seen, but never acknowledged"),
        ];
        for (count, what) in wrong.iter().filter(|(count, _)| *count > 0) {
            line.push_str(&format!(", {count} {what}"));
        }
        lines.push(line);
    }
    lines.extend(refusals(&it.accepted));
    lines
}

pub(super) fn catch_up(it: &CaughtUp) -> Vec<String> {
    let mut lines = posted("catch-up", &it.accepted);
    let digests = if it.digests_equal {
        "equal"
    } else {
        "DIFFERENT"
    };
    lines.extend([
        format!(
            "{} answered {:.2} s after it was started, and held everything after {:.2} s",
            it.away, it.start_seconds, it.catch_up_seconds
        ),
        format!(
            "caught up {:.0} messages/s; digests are {digests}",
            it.caught_up_per_second
        ),
        format!(
            "{} runs on as a child of process {}",
            it.away, it.parent_pid
        ),
    ]);
    lines.extend(refusals(&it.accepted));
    lines
}

pub(super) fn history(it: &Paged) -> Vec<String> {
    let mut lines = vec![format!(
        "history in {}: pages of {}, {} clients; conversation {} of {} messages",
        it.region, it.page, it.clients, it.conversation, it.messages
    )];
    lines.extend(it.texts.as_ref().map(texts));
    lines.push(HEAD.to_owned());
    let mut kinds = vec![("newest", &it.newest), ("random", &it.random)];
    kinds.extend(it.unread.as_ref().map(|pages| ("unread", pages)));
    for (name, pages) in &kinds {
        lines.push(row(name, pages.latency.as_ref()));
    }
    for (name, pages) in kinds {
        let cpu = cpu("page", &pages.cpu).unwrap_or_default();
        lines.push(format!(
            "{name}: {:.1} pages/s; {cpu}",
            pages.pages_per_second
        ));
    }
    lines
}

pub(super) fn edits(it: &Edited) -> Vec<String> {
    let mut lines = vec![
        format!("edits in {}: one call at a time", it.region),
        texts(&it.texts),
        HEAD.to_owned(),
    ];
    for after in &it.after {
        let earlier = after.earlier_edits;
        lines.push(row(&format!("edit/{earlier}"), after.edit.as_ref()));
        lines.push(row(&format!("merge/{earlier}"), after.merge.as_ref()));
    }
    for after in &it.after {
        let cpu = cpu("edit and merge", &after.cpu).unwrap_or_default();
        let (earlier, messages) = (after.earlier_edits, after.messages);
        lines.push(format!("after {earlier}: {messages} messages; {cpu}"));
    }
    lines
}

pub(super) fn streams(it: &Idled) -> Vec<String> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let kib = |bytes: Option<i64>| match bytes {
        Some(bytes) => format!("{:.1} KiB", bytes as f64 / 1024.0),
        None => "unknown".to_owned(),
    };
    vec![
        format!(
            "streams in {}: {} of {} held for {:.1} s, {} users, {} conversations",
            it.region, it.held, it.streams, it.seconds, it.users, it.conversations
        ),
        format!(
            "memory of {}: {:.1} MiB before, {:.1} MiB with streams",
            it.region,
            mib(it.before_bytes),
            mib(it.with_streams_bytes)
        ),
        format!(
            "for each stream: {} there, {} here",
            kib(it.bytes_per_stream),
            kib(it.client_bytes_per_stream)
        ),
    ]
}

/// What all that post have in common.
fn posted(mode: &str, it: &Accepted) -> Vec<String> {
    let pace = match it.rate {
        Some(rate) => format!("open loop at {rate}/s"),
        None => "closed loop".to_owned(),
    };
    let mut lines = vec![
        format!(
            "{mode} in {}: {pace}, {} clients, {} users, {} conversations, {:.1} s",
            it.region, it.clients, it.users, it.conversations, it.seconds
        ),
        texts(&it.texts),
        format!(
            "accepted {} of {}, {:.1}/s",
            it.accepted, it.sent, it.messages_per_second
        ),
        HEAD.to_owned(),
        row("latency", it.latency.as_ref()),
    ];
    if it.rate.is_some() {
        lines.push(row("sent late", it.send_lag.as_ref()));
    }
    lines.extend(cpu("message", &it.cpu));
    lines
}

fn refusals(it: &Accepted) -> impl Iterator<Item = String> + '_ {
    it.refused.iter().map(|(code, count)| {
        let reason = it.reasons.get(code).map_or("", String::as_str);
        format!("refused {count}: {code}: {reason}")
    })
}

fn texts(texts: &TextsUsed) -> String {
    let TextsUsed {
        source,
        count,
        mean_bytes,
    } = texts;
    format!("texts: {count} ({source}), {mean_bytes:.0} bytes in the mean")
}

const HEAD: &str = "ms                   p50       p90       p99     p99.9       max";

fn row(name: &str, latency: Option<&Percentiles>) -> String {
    let Some(latency) = latency else {
        return format!("{name:<14} nothing was measured");
    };
    let ms = |us: u64| us as f64 / 1000.0;
    format!(
        "{name:<14}{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>10.2}",
        ms(latency.p50_us),
        ms(latency.p90_us),
        ms(latency.p99_us),
        ms(latency.p99_9_us),
        ms(latency.max_us),
    )
}

/// `None` where nothing is known, as of processes elsewhere.
fn cpu(each: &str, cpu: &Cpu) -> Option<String> {
    let own = cpu.client_cpu_us_per_message?;
    let mut line = format!("cpu us/{each}: client {own:.0}");
    for region in &cpu.regions {
        line.push_str(&format!(
            ", {} {:.0}",
            region.region, region.cpu_us_per_message
        ));
    }
    Some(line)
}
