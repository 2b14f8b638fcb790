//! Counts durably: `writer DIR LIMIT BYTES EVERY IN_FLIGHT` appends the numbers after the last one
//! in DIR, up to LIMIT, padded to BYTES each, and prints `ack N` as soon as N is safe. IN_FLIGHT
//! of them are submitted ahead. Every number divisible by EVERY (0: none) replaces the journal by
//! one record that stands for all numbers so far. A failure prints `fail N MESSAGE` for every
//! number that was submitted and is not safe, and the exit status is 3.
//!
//! The crash tests of this crate start it and kill it.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc::channel;

use mainstay_store::{OpenOptions, StateDir, Write, WriteKind};

const NUMBER: u8 = 1;
const ALL_UP_TO: u8 = 2;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // Nobody is left to tell if this fails too.
        let _ = writeln!(std::io::stderr(), "writer: {error}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, dir, limit, bytes, every, most_in_flight] = &args[..] else {
        return Err("usage: writer DIR LIMIT BYTES EVERY IN_FLIGHT".into());
    };
    let (limit, bytes): (u64, usize) = (limit.parse()?, bytes.parse()?);
    let (every, most_in_flight): (u64, u64) = (every.parse()?, most_in_flight.parse()?);

    let (dir, recovered) = StateDir::open(dir, OpenOptions { create: true })?;
    let mut next = match recovered.records.last() {
        Some((_, payload)) => u64::from_le_bytes(payload[..8].try_into()?) + 1,
        None => 1,
    };
    let (done, completions) = channel();
    let writer = dir.start(Box::new(move |completion| {
        // The receiver lives until the writer is closed.
        let _ = done.send(completion);
    }))?;

    let mut out = std::io::stdout();
    writeln!(out, "open {next}")?;
    let mut in_flight = 0;
    let mut status = ExitCode::SUCCESS;
    loop {
        while in_flight < most_in_flight && next <= limit && status == ExitCode::SUCCESS {
            let mut payload = next.to_le_bytes().to_vec();
            payload.resize(bytes.max(8), next as u8);
            let kind = if every != 0 && next.is_multiple_of(every) {
                WriteKind::Replace(vec![(ALL_UP_TO, payload)])
            } else {
                WriteKind::Append(vec![(NUMBER, payload)])
            };
            writer.submit(Write { token: next, kind })?;
            next += 1;
            in_flight += 1;
        }
        if in_flight == 0 {
            break;
        }
        let completion = completions.recv()?;
        in_flight -= 1;
        match completion.result {
            Ok(()) => writeln!(out, "ack {}", completion.token)?,
            Err(error) => {
                writeln!(out, "fail {} {error}", completion.token)?;
                status = ExitCode::from(3);
            }
        }
        out.flush()?;
    }
    // A failure has been told above.
    let _ = writer.close();
    Ok(status)
}
