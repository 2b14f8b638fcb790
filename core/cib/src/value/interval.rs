//! Lengths of time.

use super::FromText;
use core::fmt;

/// A length of time in milliseconds: how often an operation recurs, how long it may take, how long a
/// failure counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(u64);

impl Interval {
    /// No time.
    pub const ZERO: Interval = Interval(0);

    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Interval {
        Interval(ms)
    }

    /// The length in milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl FromText for Interval {
    const EXPECTED: &'static str = "a length of time such as 30s, 500ms, 5min, 2h or PT1M30S";

    /// A number with a unit (us, ms, s, min or m, h; seconds if there is none), or an ISO 8601
    /// duration.
    fn from_text(text: &str) -> Option<Interval> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix('P') {
            return iso_8601(rest).map(Interval);
        }
        let text = text.strip_prefix('+').unwrap_or(text);
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let number: u64 = text[..digits].parse().ok()?;
        let unit = text[digits..].trim();
        let is = |units: &[&str]| units.iter().any(|u| unit.eq_ignore_ascii_case(u));
        let ms = if is(&["", "s", "sec"]) {
            number.checked_mul(1000)?
        } else if is(&["ms", "msec"]) {
            number
        } else if is(&["us", "usec"]) {
            number / 1000
        } else if is(&["m", "min"]) {
            number.checked_mul(60_000)?
        } else if is(&["h", "hr"]) {
            number.checked_mul(3_600_000)?
        } else {
            return None;
        };
        Some(Interval(ms))
    }

    fn to_text(&self) -> String {
        match self.0 {
            0 => "0".to_owned(),
            ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => format!("{}min", ms / 60_000),
            ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
            ms => format!("{ms}ms"),
        }
    }
}

/// What follows the P. Hours and seconds are understood before the T too, as there is nothing else
/// that they could mean. A month counts 30 days and a year 365: as an interval has no beginning, there
/// is no calendar to ask.
fn iso_8601(text: &str) -> Option<u64> {
    const DAY: u64 = 86_400_000;
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let mut total: u64 = 0;
    let mut parts = 0;
    for (part, units) in [
        (
            date,
            &[
                ('Y', 365 * DAY),
                ('M', 30 * DAY),
                ('W', 7 * DAY),
                ('D', DAY),
                ('H', 3_600_000),
                ('S', 1000),
            ][..],
        ),
        (time, &[('H', 3_600_000), ('M', 60_000), ('S', 1000)][..]),
    ] {
        let mut rest = part;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = rest[..end].parse().ok()?;
            let unit = rest[end..].chars().next()?;
            let (_, ms) = units.iter().find(|(u, _)| *u == unit)?;
            total = total.checked_add(number.checked_mul(*ms)?)?;
            rest = &rest[end + unit.len_utf8()..];
            parts += 1;
        }
    }
    (parts > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects timeouts and monitors: a wrong unit is a factor of a thousand.
    #[test]
    fn units_are_understood() {
        let ms = |s: &str| Interval::from_text(s).map(Interval::millis);
        assert_eq!(ms("10"), Some(10_000));
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("1500ms"), Some(1500));
        assert_eq!(ms("2 min"), Some(120_000));
        assert_eq!(ms("2m"), Some(120_000));
        assert_eq!(ms("1h"), Some(3_600_000));
        assert_eq!(ms("PT1M30S"), Some(90_000));
        assert_eq!(ms("P1D"), Some(86_400_000));
        assert_eq!(ms("P10S"), Some(10_000));
        for bad in [
            "",
            "s",
            "-5s",
            "10 parsecs",
            "P",
            "PT5",
            "99999999999999999999",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    /// Protects conversion: what is written means what was read.
    #[test]
    fn intervals_survive_their_text() {
        for ms in [0, 1, 999, 1000, 90_000, 120_000, 3_600_000, 3_600_001] {
            let interval = Interval::from_millis(ms);
            assert_eq!(Interval::from_text(&interval.to_text()), Some(interval));
        }
    }
}
