//! `mainstay contention`

use crate::{
    args::Global,
    commands::{
        graph::who,
        locks::{lockspace_name, unknown},
    },
    connect::connect,
    exit::{OK, Outcome},
    output::{self, FAINT, HEAD, Table, paint, span},
};
use clap::Args;
use mainstay_wire::contention::{ContentionReport, LockspaceTimes, LongWait, Times};
use std::fmt::Write as _;

#[derive(Debug, Args)]
#[command(
    after_help = "Waits and holds are counted by the nodes on which the clients are, since these nodes \
    joined; the most contended resources are those of the last 10 to 20 minutes. A wait is the time \
    from a call for a lock or conversion to its end, granted or not; a hold that from the grant of a \
    mode other than nl to its release or change. Half, nine tenths and 99 hundredths are told to a \
    factor of two.\n\nExamples:\n  mainstay contention\n  mainstay contention --lockspace vms --limit 3\n  \
    mainstay contention --json | jq '.hot[0].name'"
)]
pub(crate) struct ContentionArgs {
    /// Only this lockspace
    #[arg(long, value_name = "NAME")]
    pub(crate) lockspace: Option<String>,
    /// Show at most so many waits, resources, and lockspaces
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Go on with the lockspaces after this one
    #[arg(long, value_name = "NAME", conflicts_with = "lockspace")]
    pub(crate) after: Option<String>,
}

pub(crate) async fn run(global: Global, args: ContentionArgs) -> Outcome {
    let lockspace = args.lockspace.as_deref().map(lockspace_name).transpose()?;
    let after = args.after.as_deref().map(lockspace_name).transpose()?;
    let named = lockspace.clone().or(after.clone());
    let report = connect(&global)
        .await?
        .contention(lockspace, args.limit, after)
        .await
        .map_err(|error| unknown(error, named.as_ref()))?;
    if global.json {
        output::json(&report)?;
        return Ok(OK);
    }
    output::print(&text(&report));
    if report.truncated
        && let Some(last) = report.lockspaces.last()
    {
        output::note(format_args!(
            "there are more lockspaces; go on with `--after {}`",
            last.lockspace
        ));
    }
    output::note_silent(&report.silent, "what it would tell");
    Ok(OK)
}

fn text(report: &ContentionReport) -> String {
    let mut out = format!("{}\n", paint(HEAD, "Longest waits"));
    if report.waits.is_empty() {
        out.push_str("  nobody waits\n");
    }
    for wait in &report.waits {
        add_wait(&mut out, wait);
    }
    let reach = span(report.hot_ms);
    let _ = writeln!(
        out,
        "\n{} (last {reach})",
        paint(HEAD, "Most contended resources")
    );
    if report.hot.is_empty() {
        out.push_str("  no wait has ended in that time\n");
    } else {
        let mut table = Table::new(["  RESOURCE", "WAITS", "WAITED", "LONGEST"]);
        for hot in &report.hot {
            let over = match hot.over_us {
                0 => String::new(),
                us => format!(" (less up to {})", short(us)),
            };
            table.row([
                format!("  {}/{}", hot.lockspace, hot.name),
                hot.waits.to_string(),
                format!("{}{over}", short(hot.waited_us)),
                short(hot.longest_us),
            ]);
        }
        out.push_str(&table.render());
    }
    for space in &report.lockspaces {
        add_space(&mut out, space);
    }
    out
}

fn add_wait(out: &mut String, wait: &LongWait) {
    let (waiter, age) = (who(&wait.waiter), span(wait.waited_ms));
    let (space, name, asked) = (&wait.lockspace, &wait.name, wait.requested);
    let _ = match wait.granted {
        Some(held) => writeln!(
            out,
            "  {age}: {waiter} converts {space}/{name} from {held} to {asked}"
        ),
        None => writeln!(out, "  {age}: {waiter} waits for {asked} on {space}/{name}"),
    };
    for blocker in &wait.blockers {
        let name = who(&blocker.owner);
        let _ = match blocker.held {
            Some(held) => writeln!(out, "    held in {held} by {name}"),
            None => writeln!(out, "    behind {name}"),
        };
    }
}

fn add_space(out: &mut String, space: &LockspaceTimes) {
    let title = format!("Lockspace {}", space.lockspace);
    let _ = writeln!(out, "\n{}", paint(HEAD, title));
    let given_up = match space.given_up {
        0 => String::new(),
        count => format!(", {count} of them not granted"),
    };
    add_times(out, "waits", &space.waits, &given_up);
    add_times(out, "holds", &space.holds, "");
}

fn add_times(out: &mut String, what: &str, times: &Times, more: &str) {
    let _ = writeln!(out, "  {} {what}{more}", times.count);
    if times.count == 0 {
        return;
    }
    let _ = writeln!(
        out,
        "    half ≤ {}, 90 % ≤ {}, 99 % ≤ {}, longest {}",
        short(times.p50_us),
        short(times.p90_us),
        short(times.p99_us),
        short(times.max_us)
    );
    let most = times.buckets.iter().map(|b| b.count).max().unwrap_or(1);
    for bucket in &times.buckets {
        let _ = writeln!(
            out,
            "    {:>9} {:<BAR$} {}",
            format!("< {}", short(bucket.below_us)),
            bar(bucket.count, most),
            paint(FAINT, bucket.count)
        );
    }
}

/// Characters of the longest bar.
const BAR: usize = 40;

/// A bar in eighths of a character, at least one.
fn bar(count: u64, most: u64) -> String {
    let eighths = u128::from(count) * (BAR as u128 * 8) / u128::from(most.max(1));
    let eighths = usize::try_from(eighths)
        .unwrap_or(BAR * 8)
        .clamp(1, BAR * 8);
    let mut bar = "█".repeat(eighths / 8);
    bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((eighths % 8).wrapping_sub(1)));
    bar
}

/// A duration in three digits or so.
fn short(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        10_000..1_000_000 => format!("{} ms", us / 1000),
        _ => span(us / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{LockId, LockMode, LockspaceName, NodeName, ResourceName, SessionId};
    use mainstay_wire::{
        contention::{Bucket, HotReport, WaitBlocker},
        report::{GraphOwner, OwnerReport},
    };

    fn owner(node: &str, pid: u32) -> GraphOwner {
        GraphOwner {
            node: NodeName::new(node).expect("valid"),
            session: Some(SessionId(1)),
            owner: OwnerReport {
                pid,
                uid: 0,
                command: "job".to_owned(),
                orphan_ms: None,
                owner: mainstay_base::Owner::Session,
                broken: None,
            },
        }
    }

    /// Protects the page: who waits longest and for whom, where is queued most, and the times as bars.
    #[test]
    fn contention_reads_as_a_page() {
        let lockspace = LockspaceName::new("default").expect("valid");
        let name = ResourceName::new("disk").expect("valid");
        let mut waits = Times::default();
        waits.merge(&Times {
            count: 13,
            total_us: 90_000,
            max_us: 81_000,
            buckets: vec![
                Bucket {
                    below_us: 1,
                    count: 12,
                },
                Bucket {
                    below_us: 131_072,
                    count: 1,
                },
            ],
            ..Times::default()
        });
        let report = ContentionReport {
            waits: vec![LongWait {
                waiter: owner("n1", 7),
                lockspace: lockspace.clone(),
                name: name.clone(),
                lock: LockId(1),
                granted: None,
                requested: LockMode::Ex,
                waited_ms: 1500,
                blockers: vec![WaitBlocker {
                    owner: owner("n2", 8),
                    held: Some(LockMode::Pr),
                }],
            }],
            hot: vec![HotReport {
                lockspace: lockspace.clone(),
                name,
                waits: 3,
                waited_us: 4_500_000,
                longest_us: 2500,
                over_us: 500_000,
            }],
            hot_ms: 61_000,
            lockspaces: vec![LockspaceTimes {
                lockspace,
                waits,
                given_up: 1,
                holds: Times::default(),
            }],
            ..ContentionReport::default()
        };
        let page = anstream::adapter::strip_str(&text(&report)).to_string();
        assert_eq!(
            page,
            "\
Longest waits
  1.5 s: process 7 (job) on n1 waits for ex on default/disk
    held in pr by process 8 (job) on n2

Most contended resources (last 1 min 1 s)
  RESOURCE      WAITS  WAITED                     LONGEST
  default/disk  3      4.5 s (less up to 500 ms)  2.5 ms

Lockspace default
  13 waits, 1 of them not granted
    half ≤ 1 µs, 90 % ≤ 1 µs, 99 % ≤ 81 ms, longest 81 ms
       < 1 µs ████████████████████████████████████████ 12
     < 131 ms ███▎                                     1
  0 holds
"
        );
    }

    /// Protects rare sizes from looking like none: the shortest bar is not empty, the longest is full.
    #[test]
    fn bars_are_never_empty() {
        assert_eq!(bar(1, 1_000_000), "▏");
        assert_eq!(bar(5, 5).chars().count(), BAR);
        assert_eq!(bar(u64::MAX, 1).chars().count(), BAR);
    }
}
