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

/// What both needed for one cluster.
struct Pair {
    shape: Shape,
    ours: Cost,
    theirs: Cost,
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
    let mut pairs = Vec::new();
    for shape in clusters {
        eprintln!("  {shape}");
        pairs.push(pair(&dir, *shape, wish.runs)?);
    }
    let mut curve = Vec::new();
    if !wish.no_curve {
        let sizes = if wish.quick { &CURVE[..3] } else { &CURVE };
        for &services in sizes {
            let shape = shape(CURVE_NODES, services, 5);
            eprintln!("  {shape}, for the curve");
            // How the reference grows is known where it does not take minutes.
            let theirs = services <= 1000;
            curve.push(point(&dir, shape, wish.runs, theirs)?);
        }
    }
    if wish.json {
        let pairs: Vec<_> = pairs.iter().map(Pair::json).collect();
        let curve: Vec<_> = curve
            .iter()
            .map(|(shape, ours, theirs)| {
                json!({
                    "nodes": shape.nodes,
                    "services": shape.services,
                    "mainstay": ours.json(),
                    "reference": theirs.map(Cost::json),
                })
            })
            .collect();
        let report = json!({ "clusters": pairs, "curve": curve });
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
    fn times(&self) -> f64 {
        self.theirs.seconds / self.ours.seconds
    }

    fn busy_times(&self) -> f64 {
        self.theirs.busy / self.ours.busy
    }

    #[expect(clippy::cast_precision_loss, reason = "memory of machines is exact")]
    fn memory(&self) -> f64 {
        self.ours.kilobytes as f64 / self.theirs.kilobytes as f64
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "cluster": self.shape.to_string(),
            "mainstay": self.ours.json(),
            "reference": self.theirs.json(),
            "times_faster": self.times(),
            "times_less_busy": self.busy_times(),
            "memory_ratio": self.memory(),
        })
    }
}

type Point = (Shape, Cost, Option<Cost>);

fn print(pairs: &[Pair], curve: &[Point]) {
    println!(
        "| nodes × services | mainstay | {REFERENCE} | times faster | by processor time | memory |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for pair in pairs {
        println!(
            "| {} | {} | {} | {:.1} | {:.1} | {:.2} |",
            pair.shape,
            words(pair.ours),
            words(pair.theirs),
            pair.times(),
            pair.busy_times(),
            pair.memory()
        );
    }
    if curve.is_empty() {
        return;
    }
    println!(
        "\n| nodes × services | mainstay | µs for each service | {REFERENCE} | µs for each service |"
    );
    println!("|---|---:|---:|---:|---:|");
    for (shape, ours, theirs) in curve {
        let (cost, each) = match theirs {
            Some(theirs) => (words(*theirs), each(*theirs, *shape)),
            None => Default::default(),
        };
        println!(
            "| {shape} | {} | {} | {cost} | {each} |",
            words(*ours),
            self::each(*ours, *shape)
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

fn pair(dir: &Path, shape: Shape, runs: usize) -> Result<Pair> {
    let (shape, ours, theirs) = point(dir, shape, runs, true)?;
    let theirs = theirs.context("the reference was not measured")?;
    Ok(Pair {
        shape,
        ours,
        theirs,
    })
}

/// Both by turns, so that a busy moment of the machine hits both.
fn point(dir: &Path, shape: Shape, runs: usize, reference: bool) -> Result<Point> {
    let file = dir.join(format!(
        "{}-{}-{}.xml",
        shape.nodes, shape.services, shape.group
    ));
    fs::write(&file, shape.cib()).with_context(|| format!("cannot write {}", file.display()))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut plan = Command::new(binary());
        plan.arg("plan").arg(&file);
        ours.push(measure(plan)?);
        if reference {
            let mut simulate = Command::new(REFERENCE);
            simulate.args(["-R", "-Q", "-x"]).arg(&file);
            theirs.push(measure(simulate)?);
        }
    }
    let theirs = reference.then(|| median(theirs));
    Ok((shape, median(ours), theirs))
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

/// Runs a program to its end, cold, and looks at its memory while it runs.
fn measure(mut command: Command) -> Result<Cost> {
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
    Ok(cost)
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
