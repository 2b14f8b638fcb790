//! Where the daemon's log goes and how it looks.

use crate::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;

/// Environment variable that overrides `[log] level`.
pub const LOG_VARIABLE: &str = "MAINSTAY_LOG";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether `filter` is a log filter: a level, or `module=level`, or several with commas between.
/// Stricter than the library, which takes a misspelt level for the name of a module.
///
/// # Errors
/// With what is wrong with it.
pub(crate) fn check_filter(filter: &str) -> Result<(), String> {
    for directive in filter.split(',') {
        let level = match directive.split_once('=') {
            Some((module, level)) if !module.trim().is_empty() => level,
            Some(_) => return Err(format!("`{directive}` names no module before the `=`")),
            None => directive,
        };
        if !LEVELS.contains(&level.trim().to_ascii_lowercase().as_str()) {
            return Err(format!("a level is one of {}", LEVELS.join(", ")));
        }
    }
    Ok(())
}

/// Starts logging to standard error. Only the first call of a process has an effect.
pub fn init(config: &LogConfig) {
    let level = std::env::var(LOG_VARIABLE)
        .ok()
        .filter(|level| check_filter(level).is_ok())
        .unwrap_or_else(|| config.level.clone());
    let filter = EnvFilter::builder().parse_lossy(level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second call finds a subscriber in place and leaves it there.
    let _ = match config.format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
