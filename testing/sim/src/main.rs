//! `mainstay-sim`: runs seeds, replays one, steps through one.

use anyhow::{Context, bail};
use clap::Parser;
use mainstay_sim::{
    Maker, Profile, Report, Trace, Wishes, machine::real_node, replay, run, stats::Stats,
};
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Simulates clusters under faults and checks the promises. One seed determines a whole run.
#[derive(Parser, Debug)]
#[command(name = "mainstay-sim", version)]
struct Args {
    /// Run so many seeds.
    #[arg(long, value_name = "N", default_value_t = 100)]
    seeds: u64,
    /// Run this one seed.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// First seed of `--seeds` and `--minutes`; drawn from the wall clock if `random`.
    #[arg(long, value_name = "S", default_value = "1")]
    start: String,
    /// Run as many seeds as fit into so many minutes.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Seeds to run side by side.
    #[arg(long, value_name = "J")]
    jobs: Option<usize>,
    /// Print every event of the seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Step through the seed.
    #[arg(long, requires = "seed", conflicts_with = "trace")]
    step: bool,
    /// Kind of faults; drawn from the seed if absent.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Number of nodes, 1 to 9; drawn from the seed if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
    /// Run the seeds of a list of past failures: seed, profile, note.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "minutes"])]
    list: Option<PathBuf>,
    /// Go on after a failure, and tell how many there were.
    #[arg(long)]
    keep_going: bool,
}

/// Counts, seeds run, and the failures.
type Results = (Stats, u64, Vec<(Report, Wishes)>);

/// Lines of the trace that a failure shows.
const TAIL: usize = 60;

fn main() -> ExitCode {
    let args = Args::parse();
    match work(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprint(&format!("mainstay-sim: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn work(args: &Args) -> anyhow::Result<bool> {
    let wishes = Wishes {
        profile: args.profile,
        nodes: args.nodes.map(usize::from),
    };
    let maker = real_node();
    if let Some(seed) = args.seed {
        if args.step {
            return replay::step(seed, wishes, &maker);
        }
        let trace = if args.trace {
            Trace::printing()
        } else {
            Trace::quiet()
        };
        let report = run(seed, wishes, &maker, trace);
        print(&format!("{:#?}", report.params));
        print(&report.stats.to_string());
        print(&format!(
            "hash {:016x}, {} events",
            report.hash, report.events
        ));
        if report.violation.is_some() {
            tell_failure(&report, wishes, &maker, !args.trace);
        }
        return Ok(report.violation.is_none());
    }
    let jobs = match args.jobs {
        Some(0) => bail!("--jobs 0 would run nothing; give at least 1"),
        Some(jobs) => jobs,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    if let Some(path) = &args.list {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the list {}", path.display()))?;
        let list =
            replay::parse_list(&text).with_context(|| format!("in the list {}", path.display()))?;
        let seeds: Vec<(u64, Wishes)> = list
            .into_iter()
            .map(|entry| (entry.seed, entry.wishes))
            .collect();
        return Ok(many(args, &maker, jobs, |at| {
            seeds.get(at as usize).copied()
        }));
    }
    let start = match args.start.as_str() {
        "random" => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| since.as_nanos() as u64 / 1000),
        number => number
            .parse()
            .with_context(|| format!("--start takes a number or `random`, not `{number}`"))?,
    };
    print(&format!("seeds from {start}"));
    let until = args
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs_f64(minutes.max(0.0) * 60.0));
    Ok(many(args, &maker, jobs, |at| {
        let more = match until {
            Some(until) => Instant::now() < until,
            None => at < args.seeds,
        };
        more.then(|| (start.wrapping_add(at), wishes))
    }))
}

/// Runs many seeds side by side. True if all promises were kept.
fn many(
    args: &Args,
    maker: &Arc<Maker>,
    jobs: usize,
    seed_at: impl Fn(u64) -> Option<(u64, Wishes)> + Sync,
) -> bool {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let results: Mutex<Results> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed)
                    && let Some((seed, wishes)) = seed_at(next.fetch_add(1, Ordering::Relaxed))
                {
                    let report = run(seed, wishes, maker, Trace::quiet());
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.0.merge(&report.stats);
                    results.1 += 1;
                    if report.violation.is_some() {
                        stop.store(!args.keep_going, Ordering::Relaxed);
                        results.2.push((report, wishes));
                    }
                }
            });
        }
    });
    let (stats, runs, mut failures) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort_by_key(|(report, _)| report.params.seed);
    print(&stats.to_string());
    let took = began.elapsed().as_secs_f64();
    print(&format!(
        "{runs} seeds in {took:.1} s, {:.1} a second, {} failed",
        runs as f64 / took.max(1e-9),
        failures.len()
    ));
    for (report, _) in &failures {
        if let Some(violation) = &report.violation {
            let params = &report.params;
            print(&format!(
                "  seed {} {} {} nodes, {}: {}",
                params.seed,
                params.profile.name(),
                params.nodes.len(),
                violation.promise,
                violation.what
            ));
        }
    }
    if let Some((report, wishes)) = failures.first() {
        tell_failure(report, *wishes, maker, true);
    }
    if runs == 0 {
        print("not a single seed was run");
    }
    failures.is_empty() && runs > 0
}

/// Prints what broke, what had been drawn and how to see it again.
fn tell_failure(report: &Report, wishes: Wishes, maker: &Arc<Maker>, tail: bool) {
    if tail {
        let again = run(report.params.seed, wishes, maker, Trace::keeping(TAIL));
        print(&format!("{:#?}", report.params));
        print("the last events, in milliseconds:");
        print(&again.tail.join("\n"));
        if again.hash != report.hash {
            print("THE SECOND RUN WAS NOT THE FIRST: something outside the seed has a say");
        }
    }
    if let Some(violation) = &report.violation {
        print(&format!(
            "\nseed {} broke {} at {:.6} s: {}",
            report.params.seed,
            violation.promise,
            violation.at as f64 / 1e9,
            violation.what
        ));
    }
    print(&format!("to see it again: {}", report.params.command()));
}

#[expect(clippy::print_stdout, reason = "a command-line tool's output")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a command-line tool's complaint")]
fn eprint(text: &str) {
    eprintln!("{text}");
}
