//! How long plans take, and how much memory, beside Pacemaker's on the same clusters.

use super::cluster::Shape;
use crate::{
    dist::{binary, build, target_dir},
    run::works,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// How often each program plans for each cluster; medians count
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Small clusters only
    #[arg(long)]
    quick: bool,
    /// Break the reference off after so many seconds, and go on without it
    #[arg(long, value_name = "N", default_value_t = 120)]
    patience: u64,
    /// Leave out the curve of growth
    #[arg(long)]
    no_curve: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const REFERENCE: &str = "crm_simulate";
const CLUSTERS: [Shape; 4] = [
    shape(3, 200, 0),
    shape(16, 1000, 5),
    shape(32, 1000, 0),
    shape(32, 2000, 5),
];
/// Nodes of the clusters of which the curve is made.
const CURVE_NODES: usize = 16;
const CURVE: [usize; 6] = [125, 250, 500, 1000, 2000, 4000];
/// How often the peak of memory and the time on processors are looked up.
const GLANCE: Duration = Duration::from_millis(1);

const fn shape(nodes: usize, services: usize, group: usize) -> Shape {
    Shape {
        nodes,
        services,
        group,
    }
}

/// What one program needed.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// From the start to the end.
    seconds: f64,
    /// On a processor: what a busy machine does not stretch.
    busy: f64,
    /// The peak of resident memory.
    kilobytes: u64,
}

/// What both needed for one cluster; nothing for the reference if it was broken off or not asked.
struct Pair {
    shape: Shape,
    ours: Cost,
    theirs: Option<Cost>,
}

/// Measures, and prints tables.
pub(crate) fn bench(wish: &Bench) -> Result<ExitCode> {
    if !works(REFERENCE, &["--version"]) {
        bail!("{REFERENCE} is not installed; Debian has it in pacemaker-cli-utils");
    }
    if wish.runs == 0 {
        bail!("--runs is the number of times that each is measured, one at least");
    }
    build()?;
    let dir = target_dir().join("bench-scheduler");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let clusters = if wish.quick {
        &CLUSTERS[..2]
    } else {
        &CLUSTERS
    };
    let patience = Duration::from_secs(wish.patience);
    let mut pairs = Vec::new();
    for shape in clusters {
        eprintln!("  {shape}");
        pairs.push(pair(&dir, *shape, wish.runs, Some(patience))?);
    }
    let mut curve = Vec::new();
    if !wish.no_curve {
        let sizes = if wish.quick { &CURVE[..3] } else { &CURVE };
        for &services in sizes {
            let shape = shape(CURVE_NODES, services, 5);
            eprintln!("  {shape}, for the curve");
            // How the reference grows is known where it does not take minutes.
            let patience = (services <= 1000).then_some(patience);
            curve.push(pair(&dir, shape, wish.runs, patience)?);
        }
    }
    if wish.json {
        let json = |list: &[Pair]| list.iter().map(Pair::json).collect::<Vec<_>>();
        let report = json!({ "clusters": json(&pairs), "curve": json(&curve) });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&pairs, &curve);
    }
    Ok(ExitCode::SUCCESS)
}

impl Cost {
    fn json(self) -> serde_json::Value {
        json!({ "seconds": self.seconds, "busy": self.busy, "kilobytes": self.kilobytes })
    }
}

impl Pair {
    /// How many times as long the reference took, on the clock and on a processor, and which part of
    /// its memory ours took.
    #[expect(clippy::cast_precision_loss, reason = "memory of machines is exact")]
    fn ratios(&self) -> Option<[f64; 3]> {
        let theirs = self.theirs?;
        Some([
            theirs.seconds / self.ours.seconds,
            theirs.busy / self.ours.busy,
            self.ours.kilobytes as f64 / theirs.kilobytes as f64,
        ])
    }

    fn json(&self) -> serde_json::Value {
        let ratios = self.ratios();
        json!({
            "nodes": self.shape.nodes,
            "services": self.shape.services,
            "group": self.shape.group,
            "mainstay": self.ours.json(),
            "reference": self.theirs.map(Cost::json),
            "times_faster": ratios.map(|r| r[0]),
            "times_less_busy": ratios.map(|r| r[1]),
            "memory_ratio": ratios.map(|r| r[2]),
        })
    }
}

fn print(pairs: &[Pair], curve: &[Pair]) {
    println!(
        "| nodes × services | mainstay | {REFERENCE} | times faster | by processor time | memory |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for pair in pairs {
        let ratios = match pair.ratios() {
            Some([times, busy, memory]) => format!("{times:.1} | {busy:.1} | {memory:.2}"),
            None => "| |".to_owned(),
        };
        let theirs = pair.theirs.map_or("broken off".to_owned(), words);
        println!(
            "| {} | {} | {theirs} | {ratios} |",
            pair.shape,
            words(pair.ours)
        );
    }
    if curve.is_empty() {
        return;
    }
    println!(
        "\n| nodes × services | mainstay | µs for each service | {REFERENCE} | µs for each service |"
    );
    println!("|---|---:|---:|---:|---:|");
    for pair in curve {
        let theirs = pair.theirs.map(|t| (words(t), each(t, pair.shape)));
        let (cost, per) = theirs.unwrap_or_default();
        let ours = each(pair.ours, pair.shape);
        println!(
            "| {} | {} | {ours} | {cost} | {per} |",
            pair.shape,
            words(pair.ours)
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are thousands at most")]
fn each(cost: Cost, shape: Shape) -> String {
    format!("{:.0}", cost.busy * 1e6 / shape.services as f64)
}

#[expect(clippy::cast_precision_loss, reason = "memory of machines is exact")]
fn words(cost: Cost) -> String {
    format!(
        "{:.3} s ({:.3} s), {:.0} MB",
        cost.seconds,
        cost.busy,
        cost.kilobytes as f64 / 1024.0
    )
}

/// Both by turns, so that a busy moment of the machine hits both; the reference only with patience.
fn pair(dir: &Path, shape: Shape, runs: usize, patience: Option<Duration>) -> Result<Pair> {
    let name = format!("{}-{}-{}.xml", shape.nodes, shape.services, shape.group);
    let file = dir.join(name);
    fs::write(&file, shape.cib()).with_context(|| format!("cannot write {}", file.display()))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut waits = patience.is_some();
    for _ in 0..runs {
        let mut plan = Command::new(binary());
        plan.arg("plan").arg(&file);
        ours.extend(measure(plan, None)?);
        if waits {
            let mut simulate = Command::new(REFERENCE);
            simulate.args(["-R", "-Q", "-x"]).arg(&file);
            let cost = measure(simulate, patience)?;
            waits = cost.is_some();
            theirs.extend(cost);
        }
    }
    Ok(Pair {
        shape,
        ours: median(ours),
        theirs: waits.then(|| median(theirs)),
    })
}

/// The medians of the times, and the highest peak of memory.
fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let mut busy: Vec<f64> = costs.iter().map(|c| c.busy).collect();
    busy.sort_by(f64::total_cmp);
    Cost {
        seconds: costs[costs.len() / 2].seconds,
        busy: busy[busy.len() / 2],
        kilobytes: costs.iter().map(|c| c.kilobytes).max().unwrap_or(0),
    }
}

/// Runs a program to its end, cold, and looks at its memory while it runs. Nothing if it took longer
/// than anybody waits.
fn measure(mut command: Command, patience: Option<Duration>) -> Result<Option<Cost>> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let program = command.get_program().to_string_lossy().into_owned();
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("{program} did not start"))?;
    let status_file = format!("/proc/{}/status", child.id());
    let time_file = format!("/proc/{}/schedstat", child.id());
    let (mut kilobytes, mut busy) = (0, 0.0);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if patience.is_some_and(|p| start.elapsed() > p) {
            child.kill()?;
            child.wait()?;
            eprintln!("    {program}: broken off");
            return Ok(None);
        }
        if let Ok(text) = fs::read_to_string(&status_file) {
            kilobytes = peak(&text).unwrap_or(kilobytes).max(kilobytes);
        }
        if let Ok(text) = fs::read_to_string(&time_file) {
            busy = on_processor(&text).unwrap_or(busy);
        }
        std::thread::sleep(GLANCE);
    };
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        bail!("{program} failed: {status}");
    }
    let cost = Cost {
        seconds,
        busy,
        kilobytes,
    };
    eprintln!("    {program}: {}", words(cost));
    Ok(Some(cost))
}

/// The seconds that a process was on a processor; both programs have one thread.
fn on_processor(schedstat: &str) -> Option<f64> {
    let nanoseconds: f64 = schedstat.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

/// The highest resident memory, in kilobytes, from what the kernel says of a process.
fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the figures: the kernel's line is found and read in kilobytes, and a process that is
    /// gone has none.
    #[test]
    fn the_peak_is_read() {
        assert_eq!(
            peak("Name:\tx\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"),
            Some(12345)
        );
        assert_eq!(peak("Name:\tx\nState:\tZ (zombie)\n"), None);
    }

    /// Protects the median from an outlier, and the memory from being that of a lucky run.
    #[test]
    fn the_median_counts() {
        let cost = |seconds, kilobytes| Cost {
            seconds,
            busy: seconds / 2.0,
            kilobytes,
        };
        let middle = median(vec![cost(9.0, 1), cost(1.0, 7), cost(2.0, 3)]);
        assert!((middle.seconds - 2.0).abs() < f64::EPSILON);
        assert!((middle.busy - 1.0).abs() < f64::EPSILON);
        assert_eq!(middle.kilobytes, 7);
    }
}
