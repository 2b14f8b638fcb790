//! `mainstay value`

use super::lock::{Acquire, Acquired, Where, open, take};
use crate::{
    args::Global,
    connect::connect,
    exit::{CONFLICT, Failure, OK, Outcome},
    output,
};
use clap::{Args, Subcommand};
use mainstay_base::{LockMode, Value, ValueBlock, ValueVersion};
use mainstay_client::{
    Flags, LockError, Refusal,
    asynchronous::{Client, Lock},
};
use std::fmt::Write as _;

#[derive(Debug, Subcommand)]
#[command(
    after_help = "A value block is a few bytes (32 unless the lockspace says otherwise) that belong \
        to a resource. It is no storage: some time after the last lock on the resource is gone, it \
        is forgotten.\n\n\
        Examples:\n  mainstay value get disk-1\n  mainstay value set disk-1 'generation 7'\n  \
        mainstay value cas disk-1 3 'generation 8'\n  mainstay value add tickets 1\n  \
        mainstay value watch disk-1"
)]
pub(crate) enum ValueCommand {
    /// Read a value block, under a lock in mode PR
    #[command(after_help = "Examples:\n  mainstay value get disk-1\n  \
        mainstay value get --hex disk-1\n  mainstay value get --try --json disk-1")]
    Get {
        #[command(flatten)]
        acquire: Acquire,
        /// Print all bytes in hexadecimal
        #[arg(long)]
        hex: bool,
        /// The resource
        name: String,
    },
    /// Write a value block, under a lock in mode PW
    #[command(
        after_help = "Examples:\n  mainstay value set disk-1 'generation 7'\n  \
        mainstay value set --hex disk-1 00ff17\n  \
        mainstay value set --lockspace big --value-len 4096 disk-1 \"$(cat table)\""
    )]
    Set {
        #[command(flatten)]
        acquire: Acquire,
        /// VALUE is hexadecimal
        #[arg(long)]
        hex: bool,
        /// The resource
        name: String,
        /// What to write; filled up with zeros
        value: String,
    },
    /// Write a value block if it still has a certain version, in one step (compare and swap)
    #[command(
        after_help = "`value watch`, and `value get --json`, tell the version; 0 stands for a value \
        that was never written. The exit code is 1 if the value has another version, or is marked \
        as possibly stale and --stale was not given, or if another holds a lock in mode CW, PR, PW \
        or EX, and so relies on the value as it is. Versions begin at 1 again when the value has been \
        forgotten, some time after the last lock on the resource is gone: to be sure that the version \
        stands for the value that you read, keep a lock in mode NL in between.\n\n\
        Examples:\n  mainstay value cas disk-1 3 'generation 8'\n  \
        mainstay value cas --json disk-1 0 'generation 1' || echo 'somebody was first'"
    )]
    Cas {
        #[command(flatten)]
        instant: Instant,
        /// VALUE is hexadecimal
        #[arg(long)]
        hex: bool,
        /// The value is expected to be marked as possibly stale; the mark goes
        #[arg(long)]
        stale: bool,
        /// The resource
        name: String,
        /// The version that is expected
        #[arg(value_name = "VERSION")]
        expect: u64,
        /// What to write; filled up with zeros
        value: String,
    },
    /// Add to a counter, and print what it is then, in one step
    #[command(
        after_help = "The counter is the first eight bytes of the value block, little-endian and \
        signed. The exit code is 1 if another holds a lock in mode CW, PR, PW or EX, and so relies \
        on the value as it is. Like the value, the counter is forgotten some time after the last \
        lock on the resource is gone: who needs it to stay keeps one in mode NL.\n\n\
        Examples:\n  mainstay value add tickets 1\n  mainstay value add tickets -- -1\n  \
        mainstay value add tickets 0   # just look"
    )]
    Add {
        #[command(flatten)]
        instant: Instant,
        /// The resource
        name: String,
        /// By how much; below zero to count down
        #[arg(allow_negative_numbers = true)]
        delta: i64,
    },
    /// Print a value block now and whenever it changes, until interrupted
    #[command(
        after_help = "Each line is a version, a colon, and the value. Of changes in quick succession \
        only the last is certain to be printed.\n\n\
        Examples:\n  mainstay value watch disk-1\n  mainstay value watch --json --count 2 disk-1"
    )]
    Watch {
        #[command(flatten)]
        place: Where,
        /// Print all bytes in hexadecimal
        #[arg(long)]
        hex: bool,
        /// End after so many values
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// The resource
        name: String,
    },
}

/// For what is done at once or not at all.
#[derive(Clone, Debug, Args)]
pub(crate) struct Instant {
    #[command(flatten)]
    place: Where,
    /// Exit code if it is not done
    #[arg(long, value_name = "N", default_value_t = CONFLICT)]
    conflict_exit_code: u8,
}

pub(crate) async fn run(global: Global, command: ValueCommand) -> Outcome {
    match command {
        ValueCommand::Get { acquire, hex, name } => get(global, acquire, hex, &name).await,
        ValueCommand::Set {
            acquire,
            hex,
            name,
            value,
        } => set(global, acquire, &name, bytes_of(&value, hex)?).await,
        ValueCommand::Cas {
            instant,
            hex,
            stale,
            name,
            expect,
            value,
        } => {
            let expect = Value {
                block: ValueBlock::default(),
                version: ValueVersion(expect),
                maybe_stale: stale,
            };
            cas(global, instant, &name, &expect, bytes_of(&value, hex)?).await
        }
        ValueCommand::Add {
            instant,
            name,
            delta,
        } => add(global, instant, &name, delta).await,
        ValueCommand::Watch {
            place,
            hex,
            count,
            name,
        } => watch(global, place, hex, count, &name).await,
    }
}

/// A lock that is in nobody's way, and waits for nobody.
async fn interest(client: &Client, place: &Where, name: &str) -> Result<(Lock, usize), Failure> {
    let space = open(client, place).await?;
    let request = space.lock(name).mode(LockMode::Nl).with_value_block();
    let lock = request.flags(Flags::EXPEDITE).acquire().await?;
    Ok((lock, space.value_len().into()))
}

/// A value as an object for scripts.
fn json_of(place: &Where, name: &str, value: &Value) -> serde_json::Value {
    let bytes = value.block.as_bytes();
    serde_json::json!({
        "lockspace": place.lockspace,
        "resource": name,
        "version": value.version,
        "maybe_stale": value.maybe_stale,
        "hex": to_hex(bytes),
        "text": text_of(bytes),
    })
}

/// Why an update was not done, where that is an answer and no failure.
fn not_done(name: &str, error: LockError, code: u8) -> Outcome {
    match error {
        LockError::Refused(refusal @ Refusal::ValueHeld) => {
            output::note(format_args!("mainstay: {name}: {refusal}"));
            Ok(code)
        }
        error => Err(error.into()),
    }
}

async fn cas(
    global: Global,
    instant: Instant,
    name: &str,
    expect: &Value,
    bytes: Vec<u8>,
) -> Outcome {
    let client = connect(&global).await?;
    let (mut lock, len) = interest(&client, &instant.place, name).await?;
    let block = ValueBlock::new(&bytes).and_then(|block| block.padded(len));
    let block = block.map_err(|error| Failure::usage(error.to_string()))?;
    let updated = match lock.compare_and_swap(expect, block).await {
        Ok(updated) => updated,
        Err(error) => return not_done(name, error, instant.conflict_exit_code),
    };
    lock.unlock().await?;
    if global.json {
        let mut object = json_of(&instant.place, name, &updated.value);
        object["done"] = updated.done.into();
        output::json(&object)?;
    }
    if updated.done {
        return Ok(OK);
    }
    let marked = if updated.value.maybe_stale {
        ", possibly stale"
    } else {
        ""
    };
    output::note(format_args!(
        "mainstay: {name}: not written: the value has version {}{marked}",
        updated.value.version
    ));
    Ok(instant.conflict_exit_code)
}

async fn add(global: Global, instant: Instant, name: &str, delta: i64) -> Outcome {
    let client = connect(&global).await?;
    let (mut lock, _) = interest(&client, &instant.place, name).await?;
    let value = match lock.add(delta).await {
        Ok(value) => value,
        Err(error) => return not_done(name, error, instant.conflict_exit_code),
    };
    lock.unlock().await?;
    if global.json {
        output::json(&serde_json::json!({
            "lockspace": instant.place.lockspace,
            "resource": name,
            "version": value.version,
            "maybe_stale": value.maybe_stale,
            "count": value.count(),
        }))?;
        return Ok(OK);
    }
    output::line(value.count());
    if value.maybe_stale {
        output::note(STALE);
    }
    Ok(OK)
}

async fn watch(global: Global, place: Where, hex: bool, count: Option<u64>, name: &str) -> Outcome {
    let client = connect(&global).await?;
    let (lock, _) = interest(&client, &place, name).await?;
    let mut changes = lock.watch_value().await?;
    let mut next = lock.value();
    let mut printed = 0;
    while let Some(value) = next {
        if global.json {
            output::json_line(&json_of(&place, name, &value))?;
        } else {
            let bytes = value.block.as_bytes();
            let text = text_of(bytes).filter(|_| !hex);
            let text = text.map_or_else(|| to_hex(bytes), str::to_owned);
            let mark = if value.maybe_stale {
                ", possibly stale"
            } else {
                ""
            };
            output::line(format_args!("{}{mark}: {text}", value.version));
        }
        printed += 1;
        if count == Some(printed) {
            lock.unlock().await?;
            return Ok(OK);
        }
        next = tokio::select! {
            change = changes.next() => change,
            () = output::reader_gone() => return Ok(OK),
        };
    }
    let lost = client.ping().await;
    Err(lost.map_or_else(Failure::from, |()| {
        Failure::new(crate::exit::LOST, "the lock that watches is gone")
    }))
}

const STALE: &str = "mainstay: possibly stale: a later write may have been lost with its writer";

async fn get(global: Global, acquire: Acquire, hex: bool, name: &str) -> Outcome {
    let client = connect(&global).await?;
    let space = open(&client, &acquire.place).await?;
    let lock = match take(&space, name, LockMode::Pr, true, &acquire).await? {
        Acquired::Granted(lock) => lock,
        Acquired::Conflict(code) => return Ok(code),
    };
    let value = lock.value();
    lock.unlock().await?;
    let value = value.unwrap_or_default();
    let bytes = value.block.as_bytes();
    if global.json {
        output::json(&json_of(&acquire.place, name, &value))?;
        return Ok(OK);
    }
    match text_of(bytes) {
        Some(text) if !hex => output::line(text),
        _ => output::line(to_hex(bytes)),
    }
    if value.maybe_stale {
        output::note(STALE);
    }
    Ok(OK)
}

async fn set(global: Global, acquire: Acquire, name: &str, bytes: Vec<u8>) -> Outcome {
    let client = connect(&global).await?;
    let space = open(&client, &acquire.place).await?;
    let too_long = |error: mainstay_base::ValueError| Failure::usage(error.to_string());
    let block = ValueBlock::new(&bytes)
        .and_then(|block| block.padded(usize::from(space.value_len())))
        .map_err(too_long)?;
    let lock = match take(&space, name, LockMode::Pw, true, &acquire).await? {
        Acquired::Granted(lock) => lock,
        Acquired::Conflict(code) => return Ok(code),
    };
    let version = lock.unlock_with_value(block).await?;
    if global.json {
        output::json(&serde_json::json!({
            "lockspace": acquire.place.lockspace, "resource": name, "version": version
        }))?;
    }
    Ok(OK)
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The bytes as text without the zeros at their end, if they are printable text.
pub(crate) fn text_of(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// The bytes that a value on the command line stands for.
pub(crate) fn bytes_of(value: &str, hex: bool) -> Result<Vec<u8>, Failure> {
    if !hex {
        return Ok(value.as_bytes().to_vec());
    }
    let wrong = || {
        Failure::usage(format!(
            "`{value}` is not hexadecimal: an even number of digits 0-9 and a-f, as in 00ff17"
        ))
    };
    let digits: Option<Vec<u8>> = value
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits.filter(|d| d.len() % 2 == 0).ok_or_else(wrong)?;
    Ok(digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects binary values: what is not printable text is shown in hexadecimal, and what was
    /// shown can be written again.
    #[test]
    fn values_are_text_or_hexadecimal() {
        assert_eq!(text_of(b"seven\0\0"), Some("seven"));
        assert_eq!(text_of(b"\0\0"), Some(""));
        assert_eq!(text_of(b"a\0b"), None);
        assert_eq!(text_of(b"\xff"), None);
        assert_eq!(to_hex(b"\x00\xff"), "00ff");
        assert_eq!(bytes_of("00fF", true).expect("hex"), b"\x00\xff");
        assert!(bytes_of("0", true).is_err() && bytes_of("zz", true).is_err());
    }
}
