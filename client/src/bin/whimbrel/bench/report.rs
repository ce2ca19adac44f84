//! Figures for people.

use whimbrel_client::bench::{Accepted, Cpu, Percentiles, TextsUsed};

pub(super) fn accept(it: &Accepted) -> Vec<String> {
    let pace = match it.rate {
        Some(rate) => format!("open loop at {rate}/s"),
        None => "closed loop".to_owned(),
    };
    let mut lines = vec![
        format!(
            "accept in {}: {pace}, {} clients, {} users, {} conversations, {:.1} s",
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
    lines.extend(cpu(&it.cpu));
    for (code, count) in &it.refused {
        let reason = it.reasons.get(code).map_or("", String::as_str);
        lines.push(format!("refused {count}: {code}: {reason}"));
    }
    lines
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
fn cpu(cpu: &Cpu) -> Option<String> {
    let own = cpu.client_cpu_us_per_message?;
    let mut line = format!("cpu us/message: client {own:.0}");
    for region in &cpu.regions {
        line.push_str(&format!(
            ", {} {:.0}",
            region.region, region.cpu_us_per_message
        ));
    }
    Some(line)
}
