//! `mainstay value`

use super::lock::{Acquire, Acquired, open, take};
use crate::{
    args::Global,
    connect::connect,
    exit::{Failure, OK, Outcome},
    output,
};
use clap::Subcommand;
use mainstay_base::{LockMode, ValueBlock};
use std::fmt::Write as _;

#[derive(Debug, Subcommand)]
#[command(
    after_help = "A value block is a few bytes (32 unless the lockspace says otherwise) that belong \
        to a resource. It is no storage: some time after the last lock on the resource is gone, it \
        is forgotten.\n\n\
        Examples:\n  mainstay value get disk-1\n  mainstay value set disk-1 'generation 7'"
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
        mainstay value set --hex disk-1 00ff17"
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
    }
}

async fn get(global: Global, acquire: Acquire, hex: bool, name: &str) -> Outcome {
    let client = connect(&global).await?;
    let space = open(&client, &acquire).await?;
    let lock = match take(&space, name, LockMode::Pr, true, &acquire).await? {
        Acquired::Granted(lock) => lock,
        Acquired::Conflict(code) => return Ok(code),
    };
    let value = lock.value();
    lock.unlock().await?;
    let bytes = value.as_ref().map_or(&[][..], |v| v.block.as_bytes());
    let version = value.as_ref().map_or(0, |v| v.version.0);
    let maybe_stale = value.as_ref().is_some_and(|v| v.maybe_stale);
    if global.json {
        output::json(&serde_json::json!({
            "lockspace": acquire.lockspace,
            "resource": name,
            "version": version,
            "maybe_stale": maybe_stale,
            "hex": to_hex(bytes),
            "text": text_of(bytes),
        }))?;
        return Ok(OK);
    }
    match text_of(bytes) {
        Some(text) if !hex => output::line(text),
        _ => output::line(to_hex(bytes)),
    }
    if maybe_stale {
        output::note("mainstay: possibly stale: a later write may have been lost with its writer");
    }
    Ok(OK)
}

async fn set(global: Global, acquire: Acquire, name: &str, bytes: Vec<u8>) -> Outcome {
    let client = connect(&global).await?;
    let space = open(&client, &acquire).await?;
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
            "lockspace": acquire.lockspace, "resource": name, "version": version
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
