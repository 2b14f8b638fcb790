//! The table.

use crate::workload::Measured;
use std::fmt::Write as _;

/// The issue of the comparison: how many times etcd's lock rate at so many clients.
const TARGET: (usize, f64) = (64, 20.0);

/// All cases as a markdown table, and the verdict.
pub(crate) fn markdown(all: &[Measured]) -> String {
    let mut text = String::from(
        "| service | data on | clients | lock+unlock per second | p50 µs | p99 µs |\n\
         |---|---|---:|---:|---:|---:|\n",
    );
    for m in all {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.0} | {:.0} | {:.0} |",
            m.service, m.place, m.clients, m.cycles_per_second, m.p50_us, m.p99_us
        );
    }
    let _ = writeln!(
        text,
        "\n| data on | mainstay | times etcd's lock service | times its transactions |\n\
         |---|---|---:|---:|"
    );
    for ours in at_target(all).filter(|m| m.service.starts_with("mainstay")) {
        let times = |service: &str| {
            let mut theirs = at_target(all);
            let rate = theirs.find(|m| m.place == ours.place && m.service == service);
            rate.map_or(0.0, |m| {
                ours.cycles_per_second / m.cycles_per_second.max(1e-9)
            })
        };
        let (service, transaction) = (times("etcd, lock service"), times("etcd, one transaction"));
        let verdict = |times: f64| {
            if times >= TARGET.1 {
                "reached"
            } else {
                "MISSED"
            }
        };
        let _ = writeln!(
            text,
            "| {} | {}, {} clients | {service:.1} | {transaction:.1} (target ≥ {} {}) |",
            ours.place,
            ours.service,
            ours.clients,
            TARGET.1,
            verdict(service.min(transaction)),
        );
    }
    text
}

fn at_target(all: &[Measured]) -> impl Iterator<Item = &Measured> {
    all.iter().filter(|m| m.clients == TARGET.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(service: &str, rate: f64) -> Measured {
        Measured {
            service: service.to_owned(),
            place: "tmpfs".to_owned(),
            clients: 64,
            cycles_per_second: rate,
            p50_us: 1.0,
            p99_us: 2.0,
        }
    }

    /// Protects the verdict: it holds against the faster of etcd's two ways.
    #[test]
    fn the_verdict_is_against_the_faster_way() {
        let mut all = vec![
            measured("mainstay, local master", 100_000.0),
            measured("etcd, lock service", 2_000.0),
            measured("etcd, one transaction", 5_001.0),
        ];
        assert!(markdown(&all).contains("| 50.0 | 20.0 (target ≥ 20 MISSED)"));
        all[2].cycles_per_second = 4_000.0;
        assert!(markdown(&all).contains("| 50.0 | 25.0 (target ≥ 20 reached)"));
    }
}
